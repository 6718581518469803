import json

import pytest

from warmray.config import EvaluateConfig
from warmray.errors import InputError
from warmray.evaluation.prompts import cells_for, prompt
from warmray.evaluation.tasks.registry import load_items
from warmray.grid import Cell

QUESTION = "Who wrote it?"
ROW = {"question": QUESTION, "correct_answer": "Ann", "incorrect_answer": "Bob"}
ROWS = [
    ROW | {"prompt_template": "original", "amendment_type": "unmodified", "prompt": QUESTION},
    ROW | {"prompt_template": "original", "amendment_type": "emotion:sad", "prompt": f"I am low. {QUESTION}"},
    ROW | {"prompt_template": "incorrect", "amendment_type": "emotion:sad", "prompt": f"I am low. {QUESTION} Bob?"},
    ROW | {"prompt_template": "correct", "amendment_type": "stake:high", "prompt": f"A lot hangs on it. {QUESTION}"},
    ROW | {"prompt_template": "mcq", "amendment_type": "unmodified", "prompt": f"{QUESTION} A or B?"},
]


def _write(tmp_path, rows, name="trivia"):
    path = tmp_path / f"{name}.json"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return EvaluateConfig(
        tasks=[str(path)],
        contexts=["none", "sad", "high_stakes", "angry"],
        beliefs=["absent", "wrong", "doubts_right"],
    )


def test_the_studys_questions_are_asked_with_the_prompts_that_they_bring(tmp_path):
    config = _write(tmp_path, ROWS)
    [item] = load_items(config)
    cells = cells_for(item, config.asked_cells())
    assert [cell.name for cell in cells] == ["plain", "sad", "sad+wrong", "high_stakes+doubts_right"]
    assert prompt(item, Cell("sad", "wrong")) == f"I am low. {QUESTION} Bob?"
    assert (item.dataset, item.correct, item.incorrect) == ("triviaqa", ("Ann",), ("Bob",))


def test_a_proposition_of_the_study_has_its_truth_and_its_falsehood(tmp_path):
    row = {"prompt_disinfo": "Is it so?", "ground_truth": "It is.", "ground_false": "It is not.", "prompt": "Is it so?"}
    [item] = load_items(
        _write(tmp_path, [row | {"prompt_template": "original", "amendment_type": "unmodified"}], "disinfo")
    )
    assert (item.dataset, item.correct, item.incorrect) == ("disinfo", ("It is.",), ("It is not.",))


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"amendment_type": "weather:rain"}, "amendment_type 'weather:rain' is none that is known"),
        ({"prompt_template": "originl"}, "unknown prompt_template 'originl'; did you mean 'original'"),
        ({"prompt": ""}, "none of the fields prompt holds a text"),
        ({"prompt_template": "mcq"}, "holds no questions"),
    ],
)
def test_a_row_that_is_not_understood_is_named(tmp_path, change, hint):
    with pytest.raises(InputError, match=hint):
        load_items(_write(tmp_path, [ROWS[0] | change]))
