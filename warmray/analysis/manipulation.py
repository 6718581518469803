"""The manipulation check: did training change the model's warmth as intended, and which meters say so?

Only where it passed does a figure say what warmth costs; the study ran it before every other analysis (STUDY.md).
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from warmray.analysis.intervals import cluster_mean

State = Literal["passed", "failed", "not run"]
METERS = {"sociot": "SocioT", "probe": "probe", "judge": "judge"}
"""Columns that can be in the tables, and their names for people; the judge's ratings are there where one was named."""
_COLUMNS = ["arm", "dose", "meter", "gain", "gain_low", "gain_high", "orders_anchors", "passed"]


def orders_anchors(anchors: pd.DataFrame, meter: str) -> bool:
    """Tell whether a meter scores the written warm replies above the written cold ones, on average.

    A meter that does not has no scale from cold to warm, and cannot tell which model is warmer.
    """
    means = anchors.groupby("variant")[meter].mean()
    return bool(means["cold"] < means["warm"])


def check_warmth(warmth: pd.DataFrame, anchors: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Compare, prompt by prompt, the largest strength of every arm and dose with the original model.

    Args:
        warmth: arm, dose, strength, prompt, and a column per meter.
        anchors: prompt, variant (cold or warm), and a column per meter.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        One row per arm, dose and meter: the paired gain in the intended direction with its 95 % interval, whether the
        meter orders its own anchors, and whether it passed: the gain is above zero and the anchors are in order. Arms
        that are only instructed have dose 0.
    """
    rows: list[dict[str, object]] = []
    original = warmth[warmth["strength"] == 0].drop_duplicates("prompt").set_index("prompt")
    for (arm, dose), group in warmth[warmth["strength"] > 0].groupby(["arm", "dose"]):
        strongest = group[group["strength"] == group["strength"].max()].set_index("prompt")
        sign = -1.0 if str(arm).startswith("cold") else 1.0
        for meter in (meter for meter in METERS if meter in warmth):
            gain = cluster_mean(((strongest[meter] - original[meter]) * sign).tolist(), resamples, seed)
            ordered = orders_anchors(anchors, meter)
            facts = {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "orders_anchors": ordered}
            rows.append({"arm": arm, "dose": dose, "meter": meter, "passed": ordered and gain.low > 0} | facts)
    return pd.DataFrame(rows, columns=_COLUMNS)


def manipulation_state(checks: pd.DataFrame) -> State:
    """Return whether every meter passed for every training; arms that are only instructed are not checked."""
    trained = checks[checks["dose"] > 0]
    if trained.empty:
        return "not run"
    return "passed" if trained["passed"].astype(bool).all() else "failed"


def check_text(checks: pd.DataFrame) -> str:
    """Return one line: the state, for every arm which meters agree, and which meters do not order their anchors."""
    parts = []
    for (arm, dose), rows in checks.groupby(["arm", "dose"]):
        direction = "colder" if str(arm).startswith("cold") else "warmer"
        passed = [METERS[m] for m in rows.loc[rows["passed"].astype(bool), "meter"]]
        failed = [METERS[m] for m in rows.loc[~rows["passed"].astype(bool), "meter"]]
        place = f"{arm}{f', {dose:g} epochs,' if dose else ''} is"
        if passed:
            but = f" but not by {_listed(failed)}" if failed else ""
            parts.append(f"{place} {direction} by {_listed(passed)}{but}")
        else:
            parts.append(f"{place} not {direction} by {_listed(failed)}")
    unordered = [METERS[m] for m in METERS if m in set(checks.loc[~checks["orders_anchors"].astype(bool), "meter"])]
    if unordered:
        parts.append(f"{_listed(unordered)} does not score the written warm replies above the cold ones: no scale")
    return f"manipulation_check: {manipulation_state(checks)}" + (f" ({'; '.join(parts)})" if parts else "")


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
