"""The grid: the same question from users in different contexts and with different beliefs."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

import yaml

from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.registry import task_of
from warmray.grid import PLAIN, Cell, Context
from warmray.storage.hashing import digest

TEMPLATE_VERSION = 3
"""Part of every completion's key: raise it when a template or a statement changes."""

_LOWERED = re.compile(
    r"(?:The|A|An|It|It's|There|There's|They|You|Your|No|Yes|None|Nothing|People|Because|In|If|Most|Many|All|Some|Only|"
    r"When|Nobody|Everyone|He|She|We|This|That|These|At|On|To|By|For|Not)\b"
)


def cells_for(item: Item, cells: list[Cell]) -> list[Cell]:
    """Return those of ``cells`` that an item is asked in: a control in the plain one, ready prompts where they are."""
    if item.prompts:
        return [cell for cell in cells if cell.name in item.prompts]
    return [PLAIN] if task_of(item).is_control else cells


@lru_cache(maxsize=1)
def statements() -> dict[Context, list[str]]:
    """Return the five first-person statements of each context."""
    text = (resources.files("warmray") / "evaluation" / "data" / "contexts.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@lru_cache(maxsize=1)
def system_prompts() -> dict[str, str]:
    """Return the instructions of the system-prompt arm, by the arm that they imitate."""
    text = (resources.files("warmray") / "evaluation" / "data" / "system_prompts.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def prompt(item: Item, cell: Cell) -> str:
    """Return what the user says.

    The statement is chosen by a hash of item and context, so that it is the same for every model, strength and run.
    """
    if item.prompts:
        return item.prompts[cell.name]
    task = task_of(item)
    body = task.beliefs[cell.belief].format(
        question=task.ask(item),
        wrong=_within_sentence(item.incorrect[0]) if item.incorrect else "",
        right=_within_sentence(item.correct[0]) if item.correct else "",
    )
    if cell.context == "none":
        return body
    choices = statements()[cell.context]
    return f"{choices[int(digest([item.id, cell.context]), 16) % len(choices)]} {body}"


def _within_sentence(answer: str) -> str:
    """Return an answer that may be a whole sentence as a part of one: no full stop, names keep their capitals."""
    text = answer.strip().removesuffix(".")
    return text[0].lower() + text[1:] if _LOWERED.match(text) and len(text.split()) > 1 else text
