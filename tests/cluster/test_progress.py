from warmray.cluster.progress import Update, _Board, render


def _after(board: _Board, seconds: float) -> Update:
    started, first = board.first["x"]
    board.first["x"] = (started - seconds, first)
    board.post(board.latest["x"])
    return board.read()[0]


def test_a_line_says_stage_share_speed_and_time_left():
    line = render(Update("evaluate", 30, 120, tokens=600, elapsed_s=60.0))
    assert line.split() == ["evaluate", "30/120", "|", "10", "tokens/s", "|", "3:00", "left"]


def test_what_an_earlier_run_had_done_counts_for_no_speed():
    board = _Board()
    board.post(Update("x", 300, 400))
    board.post(Update("x", 350, 400, tokens=100))
    update = _after(board, 10)
    assert (update.done_before, update.tokens) == (300, 100)
    assert render(update).endswith("0:10 left")


def test_a_finished_stage_says_how_long_it_took():
    assert render(Update("analyse", 1, 1, elapsed_s=12.3)).endswith("done in 12 s")


def test_speed_is_counted_anew_when_a_failed_stage_begins_again():
    board = _Board()
    board.post(Update("x", 0, 400))
    board.post(Update("x", 390, 400, tokens=100))
    _after(board, 1000)
    board.post(Update("x", 200, 400))
    board.post(Update("x", 250, 400, tokens=30))
    update = _after(board, 10)
    assert (update.done_before, update.tokens) == (200, 30)
    assert render(update).endswith("0:30 left")
