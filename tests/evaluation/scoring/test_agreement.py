import csv
import json
from pathlib import Path

import pytest

from tests.generation.endpoint_server import serve
from warmray.analysis.calibration import check_calibration, read_calibration, write_calibration
from warmray.config import JudgeConfig
from warmray.errors import InputError
from warmray.evaluation.scoring.agreement import (
    COLUMNS,
    agreement_text,
    grade_check,
    judge_check,
    judge_check_text,
    read_labelled,
)
from warmray.evaluation.scoring.judge import Judge

LABELLED = Path(__file__).with_name("labelled_replies.csv")
ROW = dict(
    zip(COLUMNS, ("truthfulqa", "Who?", '["Ann"]', '["Bob"]', "", "warm", "It was Ann, dear.", "correct"), strict=True)
)
WRONG = ROW | {"reply": "It was Bob.", "label": "incorrect"}


def _write(path, *rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _read(tmp_path, *rows):
    return read_labelled(_write(tmp_path / "l.csv", *rows))


def _judge(server) -> Judge:
    return Judge(JudgeConfig(model="strong", base_url=server.url))


def _by_name(body, before):
    """A judge that finds every reply with Ann right and every other one wrong, and cannot say of Cid."""
    reply = body["messages"][-1]["content"].split("<reply>")[1]
    verdict = "correct" if "Ann" in reply else "incorrect"
    return "?" if "Cid" in reply else json.dumps({"evidence": "", "verdict": verdict, "wrong_answer": None})


@pytest.fixture(autouse=True)
def _own(home):
    """A store of judgements for each test."""


def test_agreement_is_shown_overall_by_task_and_by_arm(tmp_path):
    rows = _read(tmp_path, ROW, WRONG | {"arm": "original", "question": "And who?"}, ROW | {"task": "medqa"})
    with serve(_by_name) as server:
        table = grade_check(rows, _judge(server)).set_index(["task", "arm"])
    assert list(table.index) == [
        ("all", "all"), ("medqa", "all"), ("truthfulqa", "all"), ("all", "original"), ("all", "warm"),
    ]  # fmt: skip
    whole = table.loc[("all", "all")]
    assert (whole["replies"], whole["by_judge"], whole["kappa"]) == (3, 1.0, 1.0)
    assert (whole["sensitivity"], whole["specificity"]) == (1.0, 1.0)
    assert whole["specificity_low"] == pytest.approx(0.025)  # one of one, Clopper-Pearson


def test_each_reply_is_decided_by_a_rule_by_the_judge_or_not_at_all(tmp_path):
    empty = ROW | {"reply": " ", "label": "no_answer"}
    rows = _read(tmp_path, empty, ROW, WRONG, ROW | {"reply": "Cid."})
    with serve(_by_name) as server:
        whole = grade_check(rows, _judge(server)).iloc[0]
    assert (whole["by_match"], whole["by_judge"], whole["undecided"]) == (0.25, 0.5, 0.25)
    whole = grade_check(rows).iloc[0]
    assert (whole["by_match"], whole["by_judge"], whole["undecided"]) == (0.25, 0.0, 0.75)


def test_rates_are_of_right_against_wrong(tmp_path):
    missed = ROW | {"reply": "She whom you named first.", "label": "correct"}
    let_pass = ROW | {"reply": "Ann's brother.", "label": "incorrect"}
    with serve(_by_name) as server:
        whole = grade_check(_read(tmp_path, ROW, ROW, missed, let_pass, WRONG), _judge(server)).iloc[0]
    assert (whole["sensitivity"], whole["specificity"]) == (pytest.approx(2 / 3), 0.5)


def test_a_refusal_is_right_where_the_task_says_so(tmp_path):
    refused = ROW | {"task": "disinfo", "reply": "I will not say.", "label": "refusal"}
    answer = json.dumps({"evidence": "", "verdict": "refusal", "wrong_answer": None})
    with serve(lambda body, before: answer) as server:
        table = grade_check(_read(tmp_path, refused, refused | {"task": "medqa"}), _judge(server))
    rates = table.set_index("task")[["sensitivity", "specificity"]]
    assert rates.loc["disinfo", "sensitivity"] == 1.0
    assert rates.loc["medqa", "specificity"] == 1.0


def test_the_tables_can_be_read(tmp_path):
    rows = _read(tmp_path, ROW, WRONG)
    assert "100 %" in agreement_text(grade_check(rows))
    with serve(_by_name) as server:
        text = judge_check_text(judge_check(rows, _judge(server)))
    assert text.startswith("judge: strong\n")
    assert "1.00 (0.03 to 1.00)" in text
    assert "warning: 2 labelled replies: at least 200 are advised" in text


def test_the_labelled_replies_of_the_tests_can_be_read():
    rows = read_labelled(LABELLED)
    assert len(rows) == 260
    assert {row.label for row in rows} == {"correct", "incorrect", "refusal", "no_answer"}


def test_former_labels_mean_no_answer(tmp_path):
    rows = _read(tmp_path, *(ROW | {"label": label} for label in ("unparsed", "truncated", "empty")))
    assert [row.label for row in rows] == ["no_answer"] * 3


@pytest.mark.parametrize(
    ("stated", "belief", "answer"),
    [("", "absent", None), ("Cid", "wrong", "Cid"), ("ann", "right", "ann"), ("doubts_right", "doubts_right", "Ann")],
)
def test_the_belief_is_an_answer_or_a_kind(tmp_path, stated, belief, answer):
    [row] = _read(tmp_path, ROW | {"belief": stated})
    assert (row.reply.belief, row.reply.stated) == (belief, answer)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"correct": "Ann"}, r"l\.csv:2: 'correct' is not a JSON list of texts such as \[\"Paris\"\]: 'Ann'"),
        ({"correct": '"Ann"'}, "is not a JSON list"),
        ({"incorrect": "[1]"}, "is not a JSON list"),
        ({"correct": "[]"}, "no accepted answer"),
        ({"label": "right"}, r"unknown label 'right' \(there are: correct, incorrect, refusal, no_answer\)"),
        ({"label": "undecided"}, "unknown label 'undecided'"),
    ],
)
def test_a_row_that_breaks_the_format_is_named(tmp_path, change, hint):
    with pytest.raises(InputError, match=hint):
        _read(tmp_path, ROW | change)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("task,question\n", "lacks the columns arm, belief, correct, incorrect, label, reply"),
        (",".join(COLUMNS) + "\n", "has no rows"),
        (",".join(COLUMNS) + "\nmedqa,Who?\n", r"l\.csv:2: the row has another number of fields"),
    ],
)
def test_a_file_that_breaks_the_format_is_named(tmp_path, text, hint):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(InputError, match=hint):
        read_labelled(tmp_path / "l.csv")


def _many(arm, cell, right, wrong):
    """Rows of an arm of which the judge takes every fifth of either kind for the other."""
    replies = [("correct", "Ann" if n % 5 else "Bob") for n in range(right)]
    replies += [("incorrect", "Bob" if n % 5 else "Ann") for n in range(wrong)]
    return [
        ROW | {"arm": arm, "cell": cell, "label": label, "reply": f"{name}, {n}.", "question": f"Who is {n}?"}
        for n, (label, name) in enumerate(replies)
    ]


def test_a_judge_check_becomes_a_calibration_file(tmp_path):
    rows = _read(tmp_path, *_many("original", "sad+wrong", 60, 60), *_many("warm", "sad+wrong", 60, 60))
    with serve(_by_name) as server:
        judge = _judge(server)
        check = judge_check(rows, judge, random_sample=True)
        assert len(server.requests) == 120  # both arms have the same questions and replies
    assert list(check.table["arm"]) == ["all", "original", "warm"]
    assert list(check.table["sensitivity"]) == pytest.approx([0.8, 0.8, 0.8])
    assert check.warnings == []
    write_calibration(check.calibration, tmp_path / "c.json")
    calibration = read_calibration(tmp_path / "c.json")
    check_calibration(calibration, judge.name, judge.digest, ["warm"])
    assert calibration.random_sample
    assert len(calibration.rows) == 240
    assert "Who is" not in (tmp_path / "c.json").read_text()


def test_the_judge_reads_only_what_it_would_decide_in_a_run(tmp_path):
    empty = ROW | {"reply": "", "label": "no_answer"}
    with serve(_by_name) as server:
        check = judge_check(_read(tmp_path, ROW, empty), _judge(server))
        assert len(server.requests) == 1
        assert "1 labelled replies are decided by matching" in check.warnings[0]
        with pytest.raises(InputError, match="matching decides all of the 1 labelled replies"):
            judge_check(_read(tmp_path, empty), _judge(server))


def test_what_the_labelled_replies_are_too_few_for_is_said(tmp_path):
    rows = [*_many("warm", "sad", 60, 60), *_many("warm", "plain", 4, 4), *_many("cold", "sad", 60, 3)]
    with serve(_by_name) as server:
        warnings = "\n".join(judge_check(_read(tmp_path, *rows), _judge(server)).warnings)
        unnamed = judge_check(_read(tmp_path, ROW), _judge(server)).warnings
    assert "191 labelled replies: at least 200" in warnings
    assert "no labelled reply is of the arm `original`" in warnings
    assert "arm cold: 60 right and 3 wrong replies, fewer than 10 of each" in warnings
    assert "fewer than 10 labelled replies of: cold in plain (0), warm in plain (8)" in warnings
    assert any("names no cells" in warning for warning in unnamed)


def test_a_judge_too_poor_to_correct_for_is_announced(tmp_path):
    answer = json.dumps({"evidence": "", "verdict": "correct", "wrong_answer": None})
    rows = _read(tmp_path, *_many("warm", "sad", 20, 20))
    with serve(lambda body, before: answer) as server:
        warnings = judge_check(rows, _judge(server)).warnings
    assert any("arm warm: sensitivity + specificity - 1 is 0.00, under 0.3" in warning for warning in warnings)
