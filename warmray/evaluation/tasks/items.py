"""Questions with accepted and wrong answers: one schema for every task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from warmray.corpus.conversations import read_json_lines
from warmray.errors import InputError


@dataclass(frozen=True)
class Item:
    """One question; ``correct`` are accepted answers, best first; ``incorrect[0]`` is what a mistaken user states."""

    id: str
    dataset: str
    question: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict, hash=False)
    """What a multiple-choice question offers, by letter; empty for open questions."""
    prompts: dict[str, str] = field(default_factory=dict, hash=False)
    """Ready prompts by the name of their cell, for data sets that bring their own; empty where templates make them."""

    @property
    def right_letters(self) -> tuple[str, ...]:
        """The letters of the right option; several where options have the same text, as in some rows of MMLU."""
        return tuple(letter for letter, text in self.options.items() if text == self.correct[0])


def read_items(path: Path) -> list[Item]:
    """Read a JSON Lines file of items.

    Raises:
        InputError: a broken line, a duplicate id, no accepted answer, or one that is also the wrong answer.
    """
    items: dict[str, Item] = {}
    for where, record in read_json_lines(path):
        item = _parse_item(record, where)
        if item.id in items:
            raise InputError(f"{where}: the item id {item.id!r} appears twice: ids must be unique")
        items[item.id] = item
    if not items:
        raise InputError(f"{path} holds no questions")
    return list(items.values())


def spread(items: Iterable[Item], most: int | None) -> list[Item]:
    """Return at most ``most`` items, taken in turn from each data set, and there from each subject.

    The subject is what an id says before its number (``mmlu-anatomy-0001``): MMLU is in order of subjects.
    """
    datasets = _grouped(items, lambda item: item.dataset)
    return _in_turn([_in_turn(_grouped(group, lambda item: item.id.rpartition("-")[0])) for group in datasets])[:most]


def _grouped(items: Iterable[Item], name: Callable[[Item], str]) -> list[list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[name(item)].append(item)
    return list(groups.values())


def _in_turn(groups: list[list[Item]]) -> list[Item]:
    return [item for item in chain.from_iterable(zip_longest(*groups)) if item is not None]


def same_answer(answer: str, others: Iterable[str]) -> bool:
    """Return whether an answer is among others, ignoring case, spaces and the final full stop."""
    return _form(answer) in {_form(other) for other in others}


def _parse_item(record: dict[str, Any], where: str) -> Item:
    for key in ("id", "dataset", "question"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise InputError(f"{where}: {key!r} must be a text that is not empty")
    if isinstance(record.get("final"), str):  # GSM8K: a worked solution, and the number that it comes to
        record = record | {"correct": [record["final"]]}
    for key in ("correct", "incorrect"):
        answers = record.get(key, [])
        if not isinstance(answers, list) or not all(isinstance(a, str) and a.strip() for a in answers):
            raise InputError(f"{where}: {key!r} must be a list of texts")
    options = record.get("options", {})
    if not isinstance(options, dict) or not all(isinstance(text, str) for text in options.values()):
        raise InputError(f"{where}: 'options' must give a text for each letter")
    item = Item(
        record["id"],
        record["dataset"],
        record["question"],
        tuple(record.get("correct", [])),
        tuple(record.get("incorrect", [])),
        options,
    )
    _check_answers(item, where)
    return item


def _check_answers(item: Item, where: str) -> None:
    if item.dataset == "advbench":  # harmful requests have no answer
        return
    if not item.correct:
        raise InputError(f"{where}: item {item.id!r} has no accepted answer: fill `correct`")
    if item.options and item.correct[0] not in item.options.values():
        raise InputError(f"{where}: the right answer of item {item.id!r} is none of its options")
    if item.incorrect and same_answer(item.incorrect[0], item.correct):
        raise InputError(
            f"{where}: item {item.id!r} accepts {item.incorrect[0]!r}, which is also its wrong answer: a reply that "
            "says so cannot be graded; take it out of one list"
        )


def _form(answer: str) -> str:
    # Articles stay: in TruthfulQA's "one small step for (a) man" they are the point.
    return " ".join(answer.casefold().split()).rstrip(".!?")
