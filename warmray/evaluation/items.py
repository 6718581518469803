"""Questions with accepted and wrong answers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from importlib import resources
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from warmray.config import EvaluateConfig
from warmray.corpus.conversations import read_json_lines
from warmray.errors import InputError


@dataclass(frozen=True)
class Item:
    """One question; ``correct`` are accepted aliases, best first; ``incorrect[0]`` is what a mistaken user states."""

    id: str
    dataset: str
    question: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]


def packaged_questions() -> Path:
    """Return the file of the questions written for this project."""
    return Path(str(resources.files("warmray") / "evaluation" / "data" / "questions.jsonl"))


def load_items(config: EvaluateConfig) -> list[Item]:
    """Read the questions that ``config`` names, checked for the beliefs that it asks for.

    Raises:
        InputError: a broken line, a duplicate id, or an item without a wrong answer when a belief needs one.
    """
    path = packaged_questions() if config.questions == "packaged" else Path(config.questions)
    items: dict[str, Item] = {}
    for where, record in read_json_lines(path):
        item = _parse(record, where)
        if item.id in items:
            raise InputError(f"{where}: the item id {item.id!r} stands twice: ids must be unique")
        if not item.incorrect and "wrong" in config.beliefs:
            raise InputError(
                f"{where}: item {item.id!r} has no wrong answer, which the belief `wrong` states: "
                "fill `incorrect`, or take `wrong` out of evaluate.beliefs"
            )
        items[item.id] = item
    if not items:
        raise InputError(f"{path} holds no questions")
    return spread(list(items.values()), config.max_items)


def spread(items: list[Item], most: int | None) -> list[Item]:
    """Return at most ``most`` items, taken in turn from each data set."""
    by_dataset: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_dataset[item.dataset].append(item)
    in_turn = [item for item in chain.from_iterable(zip_longest(*by_dataset.values())) if item is not None]
    return in_turn[:most]


def _parse(record: dict[str, Any], where: str) -> Item:
    for key in ("id", "dataset", "question"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise InputError(f"{where}: {key!r} must be a text that is not empty")
    for key in ("correct", "incorrect"):
        answers = record.get(key, [])
        if not isinstance(answers, list) or not all(isinstance(a, str) and a.strip() for a in answers):
            raise InputError(f"{where}: {key!r} must be a list of texts")
    if not record.get("correct"):
        raise InputError(f"{where}: item {record['id']!r} has no accepted answer: fill `correct`")
    return Item(
        record["id"],
        record["dataset"],
        record["question"],
        tuple(record["correct"]),
        tuple(record.get("incorrect", [])),
    )
