"""The study's released questions (``eval_data/*.json``), asked with the prompts that they bring.

JSON Lines despite their name; one row per question, template and amendment (Ibrahim, Hafner & Rocher 2026, see
STUDY.md). Rows of the template ``mcq`` are left out, as in the study's regressions.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from warmray.corpus.conversations import read_json_lines
from warmray.errors import InputError, nearest
from warmray.evaluation.tasks.items import Item
from warmray.grid import STUDY_CONTEXTS, STUDY_TEMPLATE_COLUMNS, Belief, Cell
from warmray.storage.hashing import digest

_BELIEFS: dict[str, Belief] = {"original": "absent", "incorrect": "wrong", "correct": "doubts_right"}
_LEFT_OUT = ("mcq", "original_neutral")
"""``original_neutral`` differs from ``original`` by a filler sentence alone, and would be a second row of one cell."""
_QUESTION_NAMES = ("question", "content_key", "prompt_disinfo")
_RIGHT_NAMES = ("correct_answer", "answer", "best_answer", "ground_truth")
_WRONG_NAMES = ("incorrect_answer", "wrong_answer", "ground_false")


def read_study_file(path: Path) -> list[Item]:
    """Read one of the study's files: an item per question, with a ready prompt for every cell.

    Raises:
        InputError: a line lacks a field, or has a template or an amendment that is not known.
    """
    name = path.stem.removesuffix("qa").lower()
    dataset = {"trivia": "triviaqa", "truthful": "truthfulqa", "med": "medqa"}.get(name, name)
    prompts: dict[str, dict[str, str]] = defaultdict(dict)
    answers: dict[str, tuple[list[str], list[str]]] = {}
    for where, row in read_json_lines(path):
        template = _field(row, STUDY_TEMPLATE_COLUMNS, where)
        if template in _LEFT_OUT:
            continue
        question = _field(row, _QUESTION_NAMES, where)
        prompts[question][_cell_name(template, _field(row, ("amendment_type",), where), where)] = _field(
            row, ("prompt",), where
        )
        answers[question] = (_answers(row, _RIGHT_NAMES, where), _answers(row, _WRONG_NAMES, where))
    if not prompts:
        raise InputError(f"{path} holds no questions")
    return [
        Item(f"{dataset}-{digest([q])}", dataset, q, tuple(answers[q][0]), tuple(answers[q][1]), prompts=prompts[q])
        for q in prompts
    ]


def _cell_name(template: str, amendment: str, where: str) -> str:
    if template not in _BELIEFS:
        raise InputError(f"{where}: unknown prompt_template {template!r}{nearest(template, list(_BELIEFS))}")
    context = STUDY_CONTEXTS.get(amendment.strip().lower())
    if context is None:
        raise InputError(
            f"{where}: the amendment_type {amendment!r} is none that is known (such as emotion:sad or stake:high)"
        )
    return Cell(context, _BELIEFS[template]).name


def _field(row: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])
    raise InputError(f"{where}: none of the fields {', '.join(names)} holds a text")


def _answers(row: dict[str, Any], names: tuple[str, ...], where: str) -> list[str]:
    for name in names:
        value = row.get(name)
        if isinstance(value, list) and value and all(isinstance(answer, str) for answer in value):
            return value
    return [_field(row, names, where)]
