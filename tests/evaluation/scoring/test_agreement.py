import csv

import pytest

from warmray.cli import main
from warmray.errors import InputError
from warmray.evaluation.grading import Verdict
from warmray.evaluation.scoring.agreement import COLUMNS, check, check_text, read_labelled

ROW = dict(
    zip(COLUMNS, ("triviaqa", "Who?", '["Ann"]', '["Bob"]', "", "warm", "It was Ann, dear.", "correct"), strict=True)
)


def _write(path, *rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_agreement_is_told_overall_by_task_and_by_arm(tmp_path):
    wrong = ROW | {"reply": "It was Bob.", "label": "incorrect", "arm": "original", "question": "And who?"}
    table = check(read_labelled(_write(tmp_path / "l.csv", ROW, wrong))).set_index(["task", "arm"])
    assert list(table.index) == [("all", "all"), ("triviaqa", "all"), ("all", "original"), ("all", "warm")]
    whole = table.loc[("all", "all")]
    assert (whole["replies"], whole["decided"], whole["kappa"]) == (2, 1.0, 1.0)
    assert (whole["sensitivity"], whole["specificity"]) == (1.0, 1.0)
    assert whole["sensitivity_low"] == pytest.approx(0.025)  # one of one, Clopper-Pearson


def test_what_is_left_to_a_judge_counts_as_not_decided_only(tmp_path):
    replies = read_labelled(_write(tmp_path / "l.csv", ROW, ROW | {"label": "incorrect", "question": "And who?"}))

    def half(reply, item, **_):
        return Verdict("ambiguous" if item.question == "Who?" else "incorrect", False, "test", "")

    whole = check(replies, half).iloc[0]
    assert (whole["decided"], whole["sensitivity"]) == (0.5, 1.0)
    assert whole.isna()["specificity"]
    assert "50 %" in check_text(check(replies, half))


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"correct": "Ann"}, r"l\.csv:2: 'correct' is no JSON list: 'Ann'"),
        ({"correct": "[]"}, "no accepted answer"),
        ({"label": "right"}, r"unknown label 'right' \(there are: correct"),
    ],
)
def test_a_row_that_breaks_the_format_is_named(tmp_path, change, hint):
    with pytest.raises(InputError, match=hint):
        read_labelled(_write(tmp_path / "l.csv", ROW | change))


def test_missing_columns_are_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "l.csv").write_text("task,question\n")
    monkeypatch.setattr("sys.argv", ["warmray", "grade-check", str(tmp_path / "l.csv")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "lacks the columns arm, belief, correct, incorrect, label, reply" in capsys.readouterr().err
