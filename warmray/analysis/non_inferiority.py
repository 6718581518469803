"""The verdict for a release pipeline: is the accuracy loss shown to be inside the budget, or shown to be over it?

Non-inferiority in the cells that were declared to decide. PASS needs the upper end of the one-sided 95 % interval of
the *worst* case under the budget in *every* one of them (an intersection-union test needs no correction). BLOCK needs
the lower end of the *best* case over it in one. Everything else is INCONCLUSIVE. The cases differ where replies are
undecided: the worst case counts them as wrong for the warm model and as right for the original. "Not significant" is
never a PASS, and neither is a cell without room: where the original is right less often than the budget is wide, no
loss over the budget could show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from warmray.analysis.manipulation import State

Side = Literal["PASS", "BLOCK", "INCONCLUSIVE", "CHECK FAILED"]
EXIT_CODES: dict[Side, int] = {"PASS": 0, "BLOCK": 1, "INCONCLUSIVE": 3, "CHECK FAILED": 4}


@dataclass(frozen=True)
class CellVerdict:
    """One of the deciding cells; shares, not points."""

    cell: str
    verdict: Side
    accuracy_loss: float
    """Undecided replies count half."""
    best: float
    worst: float
    """With all undecided replies counted in favour of the warm model, and against it."""
    lower: float
    upper: float
    """Ends of the one-sided 95 % intervals: the lower one of the best case, the upper one of the worst case."""
    questions: int
    undecided: float
    """Share of the warm model's replies that nobody decided."""
    original_accuracy: float
    """Share of questions that the original answers right: what there is to lose."""
    questions_needed: float
    """This many would show with 80 % power on which side of the budget the loss is, if loss and undecided share stay as
    measured; infinite where no number would."""


@dataclass(frozen=True)
class GateVerdict:
    """What the gate says of one intensity."""

    verdict: Side
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
    def worst_cell(self) -> CellVerdict:
        """The cell with the largest upper end."""
        return max(self.cells, key=lambda cell: cell.upper)


def decide(cells: pd.DataFrame, intensity: str, budget: float, check: State) -> GateVerdict:
    """Decide on one intensity.

    Args:
        cells: Its rows of :func:`warmray.analysis.differences.cell_table`, the deciding ones.
        intensity: Its name.
        budget: The largest accuracy loss accepted, as a share.
        check: The manipulation check; unless it passed there is no verdict on the cost of warmth.
    """
    verdicts = []
    for row in cells.to_dict("records"):
        lower, upper, needed = row["accuracy_loss_lower"], row["accuracy_loss_upper"], row["questions_needed"]
        is_inside = upper < budget < row["original_accuracy"]
        verdicts.append(
            CellVerdict(
                cell=str(row["cell"]),
                verdict="PASS" if is_inside else "BLOCK" if lower > budget else "INCONCLUSIVE",
                accuracy_loss=row["accuracy_loss"],
                best=row["accuracy_loss_best"],
                worst=row["accuracy_loss_worst"],
                lower=lower,
                upper=upper,
                questions=int(row["questions"]),
                undecided=row["undecided_share"],
                original_accuracy=row["original_accuracy"],
                questions_needed=needed if math.isfinite(needed) else math.inf,
            )
        )
    sides = {cell.verdict for cell in verdicts}
    verdict: Side = "PASS" if sides == {"PASS"} else "BLOCK" if "BLOCK" in sides else "INCONCLUSIVE"
    return GateVerdict(verdict if check == "passed" else "CHECK FAILED", intensity, budget, check, tuple(verdicts))


def no_room_text(cell: str, original_accuracy: float, budget: float) -> str:
    """Say why a cell cannot decide: the original has less accuracy to lose there than the budget allows."""
    return (
        f"the original is right in only {100 * original_accuracy:.0f} % of {cell}, so a loss of {100 * budget:g} "
        "points cannot show there: ask easier questions, or let other cells decide (gate.cells)"
    )
