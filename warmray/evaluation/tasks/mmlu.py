"""MMLU (Hendrycks et al. 2021, arXiv 2009.03300), a control: multiple choice, answered with a letter."""

from __future__ import annotations

from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.task import HubTable, Row, Task, choice_row


def _mmlu_item(row: Row) -> Row:
    options = dict(zip("ABCD", row["choices"], strict=True))
    return {"subject": row["subject"]} | choice_row(row["question"], options, "ABCD"[row["answer"]])


def _with_options(item: Item) -> str:
    options = "\n".join(f"{letter}. {text}" for letter, text in item.options.items())
    return f"{item.question}\n{options}\nAnswer with the letter of the right option alone."


TASK = Task(
    "mmlu",
    scorer="choice",
    hub=HubTable("cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe", "all/test-*", _mmlu_item),
    is_control=True,
    ask=_with_options,
)
