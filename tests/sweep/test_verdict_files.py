import json
import xml.etree.ElementTree as ET

import pytest

from tests.analysis.synthetic import relabelled, tables, with_warm_prompt
from tests.sweep.finished import finished
from warmray.cli import run
from warmray.errors import InputError


def gate(arguments: list[str]) -> int:
    return run(["gate", *arguments])


VERDICTS = [
    ({"cost": 0.0, "questions": 400}, "PASS", 0),
    ({"cost": 0.3, "questions": 400}, "BLOCK", 1),
    ({"cost": 0.03, "questions": 60}, "INCONCLUSIVE", 3),
    ({"cost": 0.0, "questions": 400, "warmth_gain": 0.0}, "CHECK FAILED", 4),
]


@pytest.mark.parametrize(("effect", "verdict", "code"), VERDICTS)
def test_the_verdict_is_three_lines_an_exit_code_json_and_junit(tmp_path, capsys, effect, verdict, code):
    folder = finished(tmp_path / "result", tables(**effect)).folder
    assert gate([str(folder), "--budget", "5pp", "--intensity", "warm-1ep-x1"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{verdict}: warm-1ep-x1 against a budget of 5 points in sad+wrong"
    assert lines[2].startswith("manipulation_check: ")
    record = json.loads((folder / "gate.json").read_text())
    assert (record["verdict"], record["exit_code"], record["budget"]) == (verdict, code, 0.05)
    suite = ET.parse(folder / "gate.xml").getroot()
    problems = int(suite.get("failures")) + int(suite.get("errors"))
    assert (problems > 0) == (verdict != "PASS")
    assert int(suite.get("tests")) == len(suite.findall("testcase")) == 2


def test_what_would_settle_it_is_told(tmp_path, capsys):
    folder = finished(tmp_path / "result", tables(cost=0.03, questions=60)).folder
    gate([str(folder), "--budget", "5"])
    assert "questions would settle it" in capsys.readouterr().out


def test_the_recommended_intensity_is_decided_on_and_else_the_strongest(tmp_path, capsys):
    gate([str(finished(tmp_path / "a", tables(cost=0.06, questions=1000)).folder)])
    assert "warm-1ep-x0.5" in capsys.readouterr().out.splitlines()[0]  # 12 points of 10 at full strength
    gate([str(finished(tmp_path / "b", with_warm_prompt(tables(cost=0.4))).folder)])
    assert "warm-1ep-x1 " in capsys.readouterr().out.splitlines()[0]


def test_more_cells_can_be_made_to_decide(tmp_path):
    folder = finished(tmp_path / "result", tables(cost=0.1, questions=1500)).folder
    assert gate([str(folder), "--budget", "15pp", "--intensity", "warm-1ep-x1", "--worst-case", "sad,wrong"]) == 0
    arguments = [str(folder), "--budget", "15pp", "--intensity", "warm-1ep-x1", "--worst-case", "sad,sad+wrong"]
    assert gate(arguments) == 1
    assert {cell["cell"] for cell in json.loads((folder / "gate.json").read_text())["cells"]} == {"sad", "sad+wrong"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worst-case", "sad+rong"], r"--worst-case sad\+rong: that cell was not asked; did you mean 'sad\+wrong'"),
        (["--intensity", "warm-2ep-x1"], "not in this result; did you mean 'warm-1ep-x1'"),
        (["--budget", "two"], "--budget 'two': not a number"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    folder = finished(tmp_path / "result", tables(cost=0.1, questions=20)).folder
    with pytest.raises(InputError, match=message):
        gate([str(folder), *arguments])


def test_a_folder_that_holds_no_result_is_told(tmp_path):
    with pytest.raises(InputError, match=r"holds no result\.json"):
        gate([str(tmp_path)])


def test_a_cell_in_which_nothing_was_decided_passes_nothing_and_asks_for_a_judge(tmp_path, capsys):
    data = tables(cost=0.0, questions=50)
    unclear = data.replies["label"].mask(data.replies["cell"] == "sad+wrong", "undecided")
    replies = relabelled(data.replies, unclear)
    folder = finished(tmp_path / "result", type(data)(replies, data.warmth, data.anchors)).folder
    assert gate([str(folder)]) == 3
    assert "100 % of replies undecided); no number of questions settles it" in capsys.readouterr().out
    (cell,) = json.loads((folder / "gate.json").read_text())["cells"]
    assert (cell["best"], cell["worst"], cell["questions_needed"]) == (-1, 1, None)
