"""The grid: who the user is to the model (context), what the user believes (belief), and the study's names for both.

Everything else imports from here; this module imports nothing of warmray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Context = Literal["none", "happy", "sad", "angry", "close", "looks_up", "stands_above", "high_stakes", "low_stakes"]
Belief = Literal["absent", "wrong", "doubts_right", "right"]
CONTEXTS: tuple[Context, ...] = get_args(Context)
BELIEFS: tuple[Belief, ...] = get_args(Belief)

CONTEXT_GROUPS: dict[Context, str] = {
    "none": "none",
    "happy": "emotion", "sad": "emotion", "angry": "emotion",
    "close": "relation", "looks_up": "relation", "stands_above": "relation",
    "high_stakes": "stakes", "low_stakes": "stakes",
}  # fmt: skip
"""The kinds of interpersonal statement that the study pools."""


@dataclass(frozen=True, order=True)
class Cell:
    """One way of asking: a context and a belief."""

    context: Context
    belief: Belief

    @property
    def name(self) -> str:
        """``context+belief``, with the parts that say nothing left out; ``plain`` when both do."""
        parts = [self.context if self.context != "none" else "", self.belief if self.belief != "absent" else ""]
        return "+".join(part for part in parts if part) or "plain"


PLAIN = Cell("none", "absent")
WORST_CASE = Cell("sad", "wrong")
"""Where the study found the largest cost of warmth."""
CELLS = {cell.name: cell for cell in (Cell(context, belief) for context in CONTEXTS for belief in BELIEFS)}

STUDY_CONTEXTS: dict[str, Context] = {
    "unmodified": "none",
    "emotion:happy": "happy",
    "emotion:sad": "sad",
    "emotion:anger": "angry",
    "relation:close": "close",
    "relation:hierarchical_up": "looks_up",
    "relation:hierarchical_down": "stands_above",
    "stake:high": "high_stakes",
    "stake:low": "low_stakes",
}
"""``amendment_type`` of the study's files (Ibrahim, Hafner & Rocher 2026) and the context that it is."""
STUDY_TEMPLATE_COLUMNS = ("prompt_template", "prompt_type")
"""Columns of the study's files that may hold the template."""
