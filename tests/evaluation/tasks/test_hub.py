import json

import pandas as pd
import pytest

from tests.fake_hub import COMMIT, FakeHub
from warmray.cli import run
from warmray.config import EvaluateConfig
from warmray.errors import InputError
from warmray.evaluation.tasks import hub as fetch
from warmray.evaluation.tasks.hub import FETCHABLE, fetch_task
from warmray.evaluation.tasks.registry import load_items

ROWS = {
    "triviaqa": [
        {"question": "Who?", "answer": {"value": "Ada", "aliases": ["Ada", "Lovelace"]}, "false_answer": "Grace"},
        {"question": "Who?", "answer": {"value": "Ada", "aliases": ["Ada"]}, "false_answer": "Joan"},
        {"question": "Where?", "answer": {"value": "Rome", "aliases": ["Rome"]}, "false_answer": "Ancient Rome"},
    ],
    "truthfulqa": [
        {
            "question": "Is it so?",
            "best_answer": "No",
            "correct_answers": ["No", "It is not"],
            "incorrect_answers": ["no.", "Yes"],
        }
    ],
    "mmlu": [{"question": "2 + 2?", "subject": "arithmetic", "choices": ["3", "4", "5", "6"], "answer": 1}],
    "gsm8k": [{"question": "How many?", "answer": "1,000 + 4 = 1,004\n#### 1,004"}],
    "advbench": [{"prompt": "Do harm", "target": "Sure"}],
    "disinfo": [
        {"proposition": "Water is dry.", "ground_truth": "False"},
        {"proposition": "Water is wet", "ground_truth": "True"},
        {"proposition": "Water is nice", "ground_truth": "unknown"},
    ],
}
FILES = {
    "triviaqa": "data/validation-00000-of-00001.parquet",
    "truthfulqa": "generation/validation-00000-of-00001.parquet",
    "mmlu": "all/test-00000-of-00001.parquet",
    "gsm8k": "main/test-00000-of-00001.parquet",
    "advbench": "data/train-00000-of-00001.parquet",
    "disinfo": "disinformation/test-00000-of-00001.parquet",
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Returns a function that serves rows as the data set of a task."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    started = []

    def serve(name, rows=None):
        folder = tmp_path / f"hub-{name}"
        file = folder / FILES[name]
        file.parent.mkdir(parents=True)
        pd.DataFrame(ROWS[name] if rows is None else rows).to_parquet(file)
        (folder / "README.md").write_text("no rows here")
        server = FakeHub(folder, FETCHABLE[name].repo, is_dataset=True).__enter__()
        server.branches["pinned"] = FETCHABLE[name].revision or COMMIT
        started.append(server)
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        return server

    yield serve
    for server in started:
        server.__exit__()


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", list(FILES))
def test_what_is_fetched_can_be_asked(name, hub, tmp_path):
    hub(name)
    fetched = fetch_task(name, tmp_path / "data")
    assert fetched.revision == FETCHABLE[name].revision or fetched.revision == COMMIT
    config = EvaluateConfig(tasks=[name], data=str(tmp_path / "data"), beliefs=["absent"])
    assert len(load_items(config)) == fetched.items > 0


def test_a_wrong_answer_that_is_a_right_one_in_other_words_leaves_the_question_out(hub, tmp_path):
    hub("triviaqa")
    fetched = fetch_task("triviaqa", tmp_path)
    assert (fetched.rows, fetched.items) == (3, 1)  # one row is the same question again
    (item,) = read(fetched.path)
    assert item["correct"] == ["Ada", "Lovelace"]
    assert item["incorrect"] == ["Grace"]


def test_a_proposition_becomes_a_question_and_two_statements(hub, tmp_path):
    hub("disinfo")
    false, true = read(fetch_task("disinfo", tmp_path).path)
    assert false["question"] == "Is it true that water is dry?"
    assert false["correct"] == ["It is not true that water is dry."]
    assert false["incorrect"] == ["Water is dry."]
    assert true["correct"] == ["Water is wet."]


def test_a_wrong_answer_that_is_also_right_is_taken_out_of_the_list(hub, tmp_path):
    hub("truthfulqa")
    (item,) = read(fetch_task("truthfulqa", tmp_path).path)
    assert item["incorrect"] == ["Yes"]


def test_medqa_comes_as_json_lines(hub, tmp_path, monkeypatch):
    options = {"A": "Rest", "B": "Surgery", "C": "Iron", "D": "Heat"}
    row = {"question": "A 30-year-old man ...?", "answer": "Iron", "options": options, "answer_idx": "C"}
    folder = tmp_path / "medqa"
    folder.mkdir()
    (folder / "phrases_no_exclude_test.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with FakeHub(folder, FETCHABLE["medqa"].repo, is_dataset=True) as server:
        server.branches["pinned"] = FETCHABLE["medqa"].revision
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        (item,) = read(fetch_task("medqa", tmp_path / "data").path)
    assert item["correct"] == ["Iron"]
    assert item["incorrect"] == ["Rest", "Surgery", "Heat"]


def test_what_was_fetched_is_not_fetched_again(hub, tmp_path):
    server = hub("gsm8k")
    first = fetch_task("gsm8k", tmp_path / "data")
    server.down = True
    assert fetch_task("gsm8k", tmp_path / "data") == first


def test_a_file_of_ones_own_is_left_alone(hub, tmp_path):
    hub("gsm8k")
    (tmp_path / "gsm8k.jsonl").write_text("mine")
    with pytest.raises(InputError, match="was not fetched by warmray and is left as it is"):
        fetch_task("gsm8k", tmp_path)
    assert (tmp_path / "gsm8k.jsonl").read_text() == "mine"


def test_a_gated_data_set_says_how_to_get_it_and_the_others_come(hub, tmp_path, monkeypatch, capsys):
    hub("gsm8k")
    fetch_task("gsm8k", tmp_path)
    hub("disinfo").gated = True
    with pytest.raises(InputError, match="1 of 2 tasks could not be fetched"):
        run(["data", "fetch", "disinfo", "gsm8k", "--to", str(tmp_path)])
    told = capsys.readouterr().out
    assert "data set cais/MASK is gated: accept the licence at http" in told
    assert "datasets/cais/MASK" in told
    assert "gsm8k.jsonl: 1 questions of openai/gsm8k" in told
    assert not (tmp_path / "disinfo.jsonl").exists()


def test_names_in_a_data_set_cannot_leave_the_folder(hub, tmp_path):
    server = hub("gsm8k")
    server.extra_names = ["main/test-../../../../evil.parquet"]
    with pytest.raises(InputError, match=r"cannot contain a '\.\.' path segment"):
        fetch_task("gsm8k", tmp_path / "data")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_columns_of_another_name_are_told(hub, tmp_path):
    hub("advbench", [{"goal": "Do harm"}])
    with pytest.raises(InputError, match=r"row 1 of walledai/AdvBench is not as expected .*it has goal"):
        fetch_task("advbench", tmp_path)


def test_an_unknown_task_is_told_before_anything_is_fetched(tmp_path):
    with pytest.raises(InputError, match="unknown task 'trivia'; did you mean 'triviaqa'"):
        list(fetch.fetch_tasks(["trivia"], tmp_path))
