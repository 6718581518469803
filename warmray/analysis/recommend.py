"""Names the warmest intensity that stays inside the budget, or says what is missing to name one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from warmray.analysis.estimates import DecisionRule, Estimates
from warmray.analysis.manipulation import METERS
from warmray.analysis.non_inferiority import no_room_text

MUCH_UNDECIDED = 0.05
"""Above this share of undecided replies in a deciding cell, the recommendation says that a judge is missing."""


@dataclass(frozen=True)
class Recommendation:
    """What to ship: an intensity (or None) and one sentence for people."""

    arm: str | None
    dose: float | None
    strength: float | None
    sentence: str


def recommend(estimates: Estimates, rule: DecisionRule) -> Recommendation:
    """Choose the warmest of the warm adapters that the gate would pass."""
    if estimates.manipulation_check == "not run":
        return Recommendation(None, None, None, "None: no adapter was evaluated.")
    if estimates.manipulation_check == "failed":
        failed = estimates.checks[~estimates.checks["passed"].astype(bool) & (estimates.checks["dose"] > 0)]
        names = ", ".join(f"{row.arm} by {METERS[str(row.meter)]}" for row in failed.itertuples())
        sentence = (
            f"None: not every meter saw the training change the model's warmth (missing: {names}), so the cost of "
            "warmth is unknown. Train longer or with more data."
        )
        return Recommendation(None, None, None, sentence)
    table = estimates.intensities
    original = table[table["strength"] == 0].iloc[0]
    adapters = table[(table["strength"] > 0) & (table["dose"] > 0)]
    candidates = adapters[adapters["warmth_sociot"] > original["warmth_sociot"]]
    inside = candidates[candidates["side_of_budget"] == "PASS"]
    # A cell in which the original has less to lose than the budget lets nothing pass: say which, and why.
    deciding = estimates.cells[estimates.cells["primary"]]
    hardest = deciding.loc[deciding["original_accuracy"].idxmin()]
    if inside.empty and hardest["original_accuracy"] <= rule.budget:
        reason = no_room_text(str(hardest["cell"]), float(hardest["original_accuracy"]), rule.budget)
        return Recommendation(None, None, None, f"None: {reason}.")
    if inside.empty:
        return Recommendation(None, None, None, _none_inside(candidates, rule))
    best = inside.loc[inside["warmth_sociot"].idxmax()]
    sentence = (
        f"Ship {best['arm']} at strength {best['strength']:g}: the warmest intensity shown to lose less than "
        f"{100 * rule.budget:g} points of accuracy in {_cells_text(rule.primary)} (upper 95 % bound: "
        f"{100 * best['primary_upper']:.2f})."
    )
    return Recommendation(str(best["arm"]), float(best["dose"]), float(best["strength"]), sentence)


def _none_inside(candidates: pd.DataFrame, rule: DecisionRule) -> str:
    """Say why no intensity can be recommended, and what would help."""
    if candidates.empty:
        return "None: no intensity is warmer than the original model."
    points, cells = f"{100 * rule.budget:g} points", _cells_text(rule.primary)
    # Undecided replies widen the bounds, and more questions do not narrow them.
    undecided = float(candidates["primary_undecided"].min())
    judge = (
        f" At least {100 * undecided:.0f} % of the replies there are undecided: name a judge (evaluate.judge)."
        if undecided > MUCH_UNDECIDED
        else ""
    )
    promising = candidates[candidates["primary_accuracy_loss"] < rule.budget]
    if len(promising):
        nearest = promising.loc[promising["questions_needed"].idxmin()]
        needed = nearest["questions_needed"]
        more = f"; about {needed:.0f} questions would be needed to tell" if math.isfinite(needed) else ""
        return (
            f"None yet: no intensity was shown to lose less than {points} of accuracy in {cells}. Nearest: "
            f"{_loss(nearest)}{more}.{judge}"
        )
    least = candidates.loc[candidates["primary_accuracy_loss"].idxmin()]
    every = f"every warm intensity lost {points} of accuracy or more in {cells} (least: {_loss(least)})"
    if least["primary_lower"] > rule.budget:
        return f"None: {every}. More questions would not change that; try smaller strengths."
    needed = least["questions_needed"]
    return (
        f"None yet: as measured, {every}, but that may be chance (95 % interval from "
        f"{100 * least['primary_accuracy_loss_low']:+.1f}). "
        + (f"About {needed:.0f} questions would be needed to tell; " if math.isfinite(needed) else "")
        + f"smaller strengths may lose less.{judge}"
    )


def _loss(row: pd.Series) -> str:
    loss = f"{100 * row['primary_accuracy_loss']:+.1f} points in {row['primary_cell']}"
    return f"{loss} at strength {row['strength']:g}"


def _cells_text(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"every one of {', '.join(names)}"
