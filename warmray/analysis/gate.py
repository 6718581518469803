"""The verdict for a release pipeline: is the error increase shown to be inside the budget, or shown to be over it?

Non-inferiority on the cells that were declared to decide. PASS needs the upper end of the one-sided 95 % interval
under the budget in *every* one of them (an intersection-union test: no correction is due); one lower end over the
budget is enough to BLOCK; everything else is INCONCLUSIVE. "Not significant" is never a PASS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from warmray.analysis.manipulation import State

Verdict = Literal["PASS", "BLOCK", "INCONCLUSIVE", "CHECK FAILED"]
EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "BLOCK": 1, "INCONCLUSIVE": 3, "CHECK FAILED": 4}


@dataclass(frozen=True)
class CellVerdict:
    """One of the deciding cells; shares, not points."""

    cell: str
    verdict: Verdict
    error_increase: float
    lower: float
    upper: float
    """Ends of the one-sided 95 % intervals."""
    questions: int
    pairs: int
    """How many of the questions were decided for both models."""
    questions_needed: float
    """So many, if as large a share stays undecided and the increase is as measured, would tell with 80 % power on which
    side of the budget it is."""


@dataclass(frozen=True)
class GateVerdict:
    """What the gate says of one intensity."""

    verdict: Verdict
    intensity: str
    budget: float
    """A share: 0.02 for 2 points."""
    manipulation_check: State
    cells: tuple[CellVerdict, ...]

    @property
    def exit_code(self) -> int:
        """What ``warmray gate`` ends with."""
        return EXIT_CODES[self.verdict]

    @property
    def worst(self) -> CellVerdict:
        """The cell with the largest upper end; one that has no figures at all before any other."""
        return max(self.cells, key=lambda cell: (cell.pairs == 0, cell.upper))


def decide(cells: pd.DataFrame, intensity: str, budget: float, check: State) -> GateVerdict:
    """Decide on one intensity.

    Args:
        cells: Its rows of :func:`warmray.analysis.differences.cell_table`, the deciding ones.
        intensity: What people call it.
        budget: The largest error increase accepted, as a share.
        check: The manipulation check; where it did not pass no cost of warmth is told.
    """
    verdicts = tuple(_cell(row, budget) for row in cells.to_dict("records"))
    said = {cell.verdict for cell in verdicts}
    verdict: Verdict = "PASS" if said == {"PASS"} else "BLOCK" if "BLOCK" in said else "INCONCLUSIVE"
    return GateVerdict(verdict if check == "passed" else "CHECK FAILED", intensity, budget, check, verdicts)


def side_of(lower: float, upper: float, budget: float) -> Verdict:
    """Return what one cell's one-sided bounds say of the budget."""
    return "PASS" if upper < budget else "BLOCK" if lower > budget else "INCONCLUSIVE"


def _cell(row: dict[str, float], budget: float) -> CellVerdict:
    lower, upper = row["error_increase_lower"], row["error_increase_upper"]
    needed = row["questions_needed"]
    return CellVerdict(
        str(row["cell"]),
        side_of(lower, upper, budget),
        row["error_increase"],
        lower,
        upper,
        int(row["questions"]),
        int(row["pairs"]),
        needed if math.isfinite(needed) else math.inf,
    )
