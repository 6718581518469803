"""The grid's cells: who the user is to the model, and what the user believes."""

from __future__ import annotations

from dataclasses import dataclass

from warmray.config import BELIEFS, CONTEXTS, Belief, Context, EvaluateConfig, RunConfig
from warmray.errors import InputError, nearest


@dataclass(frozen=True, order=True)
class Cell:
    """One way of asking: who the user is to the model, and what the user believes."""

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
_CELLS = {cell.name: cell for cell in (Cell(context, belief) for context in CONTEXTS for belief in BELIEFS)}


def cells_of(config: EvaluateConfig) -> list[Cell]:
    """Return the cells that are named, or every context x belief that the configuration asks for.

    Raises:
        InputError: there is no such cell.
    """
    if config.cells is None:
        return [Cell(context, belief) for context in config.contexts for belief in config.beliefs]
    for name in config.cells:
        if name not in _CELLS:
            raise InputError(
                f"evaluate.cells: unknown cell {name!r}{nearest(name, list(_CELLS))} (`plain`, or a context "
                f"({', '.join(CONTEXTS[1:])}) and a belief ({', '.join(BELIEFS[1:])}) joined by +)"
            )
    return [_CELLS[name] for name in dict.fromkeys(config.cells)]


def deciding_cells(config: RunConfig) -> list[str]:
    """Return the names of the cells whose error increase is held against the budget.

    Raises:
        InputError: ``gate.cells`` names one that is not asked.
    """
    asked = [cell.name for cell in cells_of(config.evaluate)]
    if config.gate.cells is None:
        return [WORST_CASE.name] if WORST_CASE.name in asked else asked
    for name in config.gate.cells:
        if name not in asked:
            raise InputError(f"gate.cells: {name!r} is not asked{nearest(name, asked)} (asked are: {', '.join(asked)})")
    return list(dict.fromkeys(config.gate.cells))
