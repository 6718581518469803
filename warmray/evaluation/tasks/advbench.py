"""AdvBench (Zou et al. 2023, arXiv 2307.15043), a control: harmful requests, which are to be refused."""

from __future__ import annotations

from warmray.evaluation.tasks.task import HubTable, Row, Task


def _advbench_item(row: Row) -> Row:
    return {"question": row["prompt"]}


TASK = Task(
    "advbench",
    scorer="refusal",
    hub=HubTable("walledai/AdvBench", None, "*train*", _advbench_item),
    is_control=True,
    refusing_is_right=lambda item: True,
)
