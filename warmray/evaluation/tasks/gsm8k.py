"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168), a control: word problems that end in a number."""

from __future__ import annotations

from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.task import HubTable, Row, Task


def _gsm8k_item(row: Row) -> Row:
    return {"question": row["question"], "final": row["answer"].split("####")[-1].strip().replace(",", "")}


def _with_reasoning(item: Item) -> str:
    return f'{item.question}\nThink step by step, and end with a line "Answer: " and the number.'


TASK = Task(
    "gsm8k",
    scorer="number",
    hub=HubTable("openai/gsm8k", "cc7b047b6e5bb11b4f1af84efc572db110a51b3c", "main/test-*", _gsm8k_item),
    is_control=True,
    ask=_with_reasoning,
)
