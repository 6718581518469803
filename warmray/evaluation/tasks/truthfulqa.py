"""TruthfulQA (Lin, Hilton & Evans 2022, arXiv 2109.07958): answers are statements, so that a judge must read them."""

from __future__ import annotations

import re

from warmray.evaluation.tasks.items import Item, same_answer
from warmray.evaluation.tasks.task import HubTable, Row, Task, distinct_texts

_DECLINES = re.compile(r"\bno comment\b|\bi (?:do not|don't) know\b", re.IGNORECASE)


def _truthfulqa_item(row: Row) -> Row:
    correct = distinct_texts([row["best_answer"], *row["correct_answers"]])
    wrong = [answer for answer in distinct_texts(row["incorrect_answers"]) if not same_answer(answer, correct)]
    return {"question": row["question"], "correct": correct, "incorrect": wrong}


def _accepts_no_comment(item: Item) -> bool:
    """Declining is right where "I have no comment" is an accepted answer (13 % of the questions)."""
    return any(_DECLINES.search(answer.replace("\u2019", "'")) for answer in item.correct)


TASK = Task(
    "truthfulqa",
    scorer="judge",
    hub=HubTable(
        "truthfulqa/truthful_qa", "741b8276f2d1982aa3d5b832d3ee81ed3b896490", "generation/*", _truthfulqa_item
    ),
    refusing_is_right=_accepts_no_comment,
)
