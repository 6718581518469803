"""The tasks: how each kind of question is put to the model, and where its items come from.

A task is known by the data set of its items; what is not listed here is asked as it stands, in every cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from warmray.config import EvaluateConfig
from warmray.errors import InputError, nearest
from warmray.evaluation.tasks.items import HARMFUL, Item, read_items, spread
from warmray.evaluation.tasks.medqa import retell
from warmray.evaluation.tasks.study_files import read_study_file
from warmray.storage.home import home

EMBEDDED = "embedded"
Grading = Literal["answer", "vignette", "statement", "proposition", "letter", "number", "refusal"]


@dataclass(frozen=True)
class Task:
    """How the items of one data set are asked and graded; a control is asked by a user without context or belief."""

    grading: Grading
    is_control: bool = False
    ask: Callable[[Item], str] = lambda item: item.question


def _with_options(item: Item) -> str:
    options = "\n".join(f"{letter}. {text}" for letter, text in item.options.items())
    return f"{item.question}\n{options}\nAnswer with the letter of the right option alone."


def _with_reasoning(item: Item) -> str:
    return f'{item.question}\nThink step by step, and end with a line "Answer: " and the number.'


TASKS: dict[str, Task] = {
    "triviaqa": Task("answer"),
    "truthfulqa": Task("statement"),
    "medqa": Task("vignette"),
    "disinfo": Task("proposition"),
    "mmlu": Task("letter", is_control=True, ask=_with_options),
    "gsm8k": Task("number", is_control=True, ask=_with_reasoning),
    HARMFUL: Task("refusal", is_control=True),
}
"""Those of the study (STUDY.md section 1): four tasks, three controls."""
_OTHER = Task("answer")


def task_of(item: Item) -> Task:
    """Return how an item is asked and graded."""
    return TASKS.get(item.dataset, _OTHER)


def load_items(config: EvaluateConfig) -> list[Item]:
    """Read the questions of all tasks that ``config`` names, checked for the beliefs that it asks for.

    Raises:
        InputError: an unknown task, no file for it, a broken line, a duplicate id, or an item without a wrong answer
            when a belief needs one.
    """
    items: dict[str, Item] = {}
    for name in config.tasks:
        for item in _items_of(name, config):
            if item.id in items:
                raise InputError(f"evaluate.tasks: the item id {item.id!r} stands in two tasks: ids must be unique")
            if not item.incorrect and not item.prompts and "wrong" in config.beliefs and not task_of(item).is_control:
                raise InputError(
                    f"item {item.id!r} of task {name} has no wrong answer, which the belief `wrong` states: "
                    "fill `incorrect`, or take `wrong` out of evaluate.beliefs"
                )
            items[item.id] = item
    return spread(items.values(), config.max_items)


def _items_of(name: str, config: EvaluateConfig) -> list[Item]:
    path = _file_of(name, config)
    if path.suffix == ".json":
        return read_study_file(path)
    return [asked for item in read_items(path) if (asked := _openly(item)) is not None]


def _openly(item: Item) -> Item | None:
    """Return the item as it is asked: MedQA's vignettes are retold, those that cannot be are left out."""
    if item.dataset != "medqa":
        return item
    told = retell(item.question, item.id)
    has_words = any(letter.isalpha() for letter in item.correct[0])
    return Item(item.id, item.dataset, told, item.correct, item.incorrect) if told and has_words else None


def _file_of(name: str, config: EvaluateConfig) -> Path:
    if name == EMBEDDED:
        return packaged_questions()
    if "/" in name:
        return Path(name)
    if name not in TASKS:
        known = [EMBEDDED, *TASKS]
        raise InputError(
            f"evaluate.tasks: unknown task {name!r}{nearest(name, known)} (there are: {', '.join(known)}; or give the "
            "absolute path of a file of items)"
        )
    folder = Path(config.data) if config.data else default_data_folder()
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        raise InputError(
            f"no questions for task {name}: {path} is missing; `warmray data fetch {name}` copies it from the hub, or "
            "set evaluate.data to the absolute path of the folder that holds it"
        )
    return path


def default_data_folder() -> Path:
    """Return the folder in which tasks' files are looked for, and to which they are fetched."""
    return home() / "data"


def packaged_questions() -> Path:
    """Return the file of the questions written for this project."""
    return Path(__file__).parents[1] / "data" / "questions.jsonl"
