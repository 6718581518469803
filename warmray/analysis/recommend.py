"""Names the warmest intensity that keeps inside the error budget, or says what is missing to name one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from warmray.analysis.estimates import DecisionRule, Estimates
from warmray.analysis.manipulation import METERS
from warmray.analysis.measures import INTENSITY


@dataclass(frozen=True)
class Recommendation:
    """What to ship: an intensity (or None) and one sentence for people."""

    arm: str | None
    dose: float | None
    strength: float | None
    sentence: str


def recommend(estimates: Estimates, question: DecisionRule) -> Recommendation:
    """Choose the warmest of the warm adapters that the gate would pass."""
    budget, cells = question.budget, question.primary
    if estimates.manipulation_check == "not run":
        return Recommendation(None, None, None, "None: no adapter was evaluated, so there is none to ship.")
    if estimates.manipulation_check == "failed":
        return Recommendation(None, None, None, _failed_check(estimates.checks))
    table = estimates.intensities
    original = table[table["strength"] == 0].iloc[0]
    adapters = table[(table["strength"] > 0) & (table["dose"] > 0)]
    candidates = adapters[adapters["warmth_sociot"] > original["warmth_sociot"]]
    inside = candidates[candidates["side_of_budget"] == "PASS"]
    points = f"{100 * budget:g} points"
    if len(inside):
        best = inside.loc[inside["warmth_sociot"].idxmax()]
        sentence = (
            f"Ship {best['arm']} at strength {best['strength']:g}: the warmest intensity shown to raise the error by "
            f"less than {points} in {_cells(cells)} (upper 95 % bound: {100 * best['primary_upper']:.2f})."
            f"{_few_decided(estimates.cells, best)}"
        )
        return Recommendation(str(best["arm"]), float(best["dose"]), float(best["strength"]), sentence)
    return Recommendation(None, None, None, _none_inside(candidates, question))


def _few_decided(cells: pd.DataFrame, intensity: pd.Series) -> str:
    """Warn where most questions of a deciding cell told nothing: what the grader leaves open may hide a cost."""
    own = cells[cells["primary"] & (cells[INTENSITY] == intensity[INTENSITY]).all(axis=1)]
    fewest = own.loc[(own["pairs"] / own["questions"]).idxmin()]
    if fewest["pairs"] >= fewest["questions"] / 2:
        return ""
    return (
        f" But only {fewest['pairs']} of {fewest['questions']} questions in {fewest['cell']} were decided for both "
        "models: name a judge (evaluate.judge) for what the grader leaves open before you rely on it."
    )


def _failed_check(checks: pd.DataFrame) -> str:
    failed = checks[~checks["passed"].astype(bool) & (checks["dose"] > 0)]
    names = ", ".join(f"{row.arm} by {METERS[str(row.meter)]}" for row in failed.itertuples())
    return (
        f"None: not every meter saw the training change the model's warmth (missing: {names}), so no cost of warmth "
        "can be told. Train longer or with more data."
    )


def _none_inside(candidates: pd.DataFrame, question: DecisionRule) -> str:
    if candidates.empty:
        return "None: no intensity was warmer than the original model."
    candidates = candidates.dropna(subset="primary_error_increase")
    if candidates.empty:
        return (
            f"None: in {_cells(question.primary)} no reply was decided for both models, so that there is nothing to "
            "compare. Name a judge (evaluate.judge) for what the grader leaves open."
        )
    points = f"{100 * question.budget:g} points"
    promising = candidates[candidates["primary_error_increase"] < question.budget]
    if len(promising):
        nearest = promising.loc[promising["questions_needed"].idxmin()]
        return (
            f"None yet: no intensity could be shown to keep the error increase in {_cells(question.primary)} under "
            f"{points}. Nearest: {_worst(nearest)}; about {nearest['questions_needed']:.0f} questions would be needed "
            "to tell."
        )
    least = candidates.loc[candidates["primary_error_increase"].idxmin()]
    every = (
        f"every warm intensity raised the error in {_cells(question.primary)} by {points} or more "
        f"(least: {_worst(least)})"
    )
    if least["primary_lower"] > question.budget:
        return f"None: {every}. More questions would not change that; try smaller strengths."
    needed = least["questions_needed"]
    return (
        f"None yet: as measured, {every}, but that could be chance (95 % interval from "
        f"{100 * least['primary_error_increase_low']:+.1f}). "
        + (f"About {needed:.0f} questions would be needed to tell; " if math.isfinite(needed) else "")
        + "smaller strengths may cost less."
    )


def _worst(row: pd.Series) -> str:
    increase = f"{100 * row['primary_error_increase']:+.1f} points in {row['primary_cell']}"
    return f"{increase} at strength {row['strength']:g}"


def _cells(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"every one of {', '.join(names)}"
