import contextlib
import io

import pytest

from warmray.cluster.progress import Board, Display, Status, Update, parse, render, showing_post


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _board_at(*posts: tuple[float, Update]) -> Status:
    clock = _Clock()
    board = Board(clock)
    for clock.now, update in posts:
        board.post(update)
    (status,) = board.read()
    return status


def test_a_status_has_speed_and_time_left():
    status = _board_at((0, Update("evaluate", 0, 120)), (60, Update("evaluate", 30, 120, tokens=600, remark="warm")))
    assert status == Status("evaluate", 30, 120, tokens_per_second=10, seconds_left=180, remark="warm")


def test_what_an_earlier_run_had_done_counts_for_no_speed():
    status = _board_at((0, Update("x", 300, 400)), (10, Update("x", 350, 400, tokens=100)))
    assert (status.tokens_per_second, status.seconds_left) == (10, 10)


def test_a_finished_stage_has_the_time_it_took_and_no_time_left():
    status = _board_at((5, Update("analyse", 0, 1)), (17.3, Update("analyse", 1, 1)))
    assert (status.finished, status.seconds_taken, status.seconds_left) == (True, 12, None)


def test_speed_is_counted_anew_when_a_failed_stage_begins_again():
    status = _board_at(
        (0, Update("x", 0, 400)),
        (1000, Update("x", 390, 400, tokens=100)),
        (1010, Update("x", 200, 400)),
        (1020, Update("x", 250, 400, tokens=30)),
    )
    assert (status.tokens_per_second, status.seconds_left) == (3, 30)


def test_a_line_says_stage_share_speed_time_left_and_remark():
    line = render(Status("evaluate", 30, 120, tokens_per_second=10, seconds_left=180, remark="2 of 3"))
    assert line.split(maxsplit=2) == ["[warmray]", "evaluate", "30/120 | 10 tokens/s | 3:00 left - 2 of 3"]


STATUSES = [
    Status("prepare", 0, 1),
    Status("train warm", 12, 40, 110, 75, None, "epoch 0.30 | loss 1.234, held out 1.3"),
    Status("evaluate warm-0.25ep-x0.5", 1_234_567, 2_000_000, 2500, 7322),
    Status("a stage with a name longer than its column", 0.5, 2),
    Status("evaluate x1, cost", 1, 1, None, None, 0, "spent: 10 tokens/s | 1:00 left - 3/4"),
    Status("evaluate x1", 1, 1, remark="10 tokens/s"),
    Status("analyse", 1, 1, seconds_taken=3601, remark="[bold]not markup[/bold]"),
]


@pytest.mark.parametrize("status", STATUSES)
def test_a_line_is_read_back_as_the_status_that_it_says(status):
    assert parse(render(status)) == status


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[warmray] starting Ray on this machine",
        "[warmray] bench 1/2: ours, 30 steps",
        "evaluate 3/4",
        "[warmray] fetching org/model (0.0 GiB) into /x/1/2",
        "report               /home/x/report.html",
    ],
)
def test_other_lines_say_no_progress(line):
    assert parse(line) is None


def test_a_remark_of_several_lines_stays_on_one():
    status = _board_at((0, Update("x", 1, 2, remark="first\nsecond")))
    assert status.remark == "first second"


def test_a_log_gets_plain_lines(capsys):
    with Display() as display:
        display.show(STATUSES[1])
        display.follow("[red]a reply[/red]")
        display.follow(render(STATUSES[0]))
    assert capsys.readouterr().out.splitlines() == [render(STATUSES[1]), "[red]a reply[/red]", render(STATUSES[0])]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown_on_terminal(*lines: str) -> str:
    with contextlib.redirect_stdout(_Terminal()) as stream, Display() as display:
        for line in lines:
            display.follow(line)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def test_a_terminal_gets_bars_for_what_runs_and_lines_for_what_is_finished():
    text = "[red]a reply[/red] :smile: of a path " + "x" * 200
    shown = _shown_on_terminal(render(STATUSES[1]), text, render(STATUSES[4]))
    assert "━" in shown
    assert "12/40 | 110 tokens/s | 1:15 left" in shown
    assert text in shown  # neither read as markup nor cut into lines
    assert render(STATUSES[4]) in shown


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert _shown_on_terminal(render(STATUSES[1])) == render(STATUSES[1]) + "\n"


def test_without_ray_a_log_gets_the_first_the_last_and_now_and_then_another_update(capsys):
    clock = _Clock()
    post = showing_post(Display(), clock)
    for done in range(101):
        clock.now = done / 10
        post(Update("judge", done, 100))
    shown = [line.split()[2].split("/")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["0", "50", "100"]
