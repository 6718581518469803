"""The manipulation check: did training make the model warmer (or colder) at all, and which meters say so?

Only where it passed does a figure say what warmth costs; the study ran it before every other analysis (STUDY.md).
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from warmray.analysis.intervals import cluster_mean

State = Literal["passed", "failed", "not run"]
METERS = {"sociot": "SocioT", "probe": "probe", "judge": "judge"}
"""Columns that can be in the tables, and what people call them; a judge's ratings are there where one was asked."""
_COLUMNS = ["arm", "dose", "meter", "gain", "gain_low", "gain_high", "passed"]


def check_warmth(warmth: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Compare, prompt by prompt, the largest strength of every arm and dose with the original model.

    Returns:
        One row per arm, dose and meter: the paired gain in the intended direction with its 95 % interval, and whether
        it is above zero. Arms that are only instructed have dose 0.
    """
    rows: list[dict[str, object]] = []
    original = warmth[warmth["strength"] == 0].drop_duplicates("prompt").set_index("prompt")
    for (arm, dose), group in warmth[warmth["strength"] > 0].groupby(["arm", "dose"]):
        strongest = group[group["strength"] == group["strength"].max()].set_index("prompt")
        sign = -1.0 if str(arm).startswith("cold") else 1.0
        for meter in (meter for meter in METERS if meter in warmth):
            gain = cluster_mean(((strongest[meter] - original[meter]) * sign).tolist(), resamples, seed)
            rows.append(
                {"arm": arm, "dose": dose, "meter": meter, "gain": gain.value, "gain_low": gain.low}
                | {"gain_high": gain.high, "passed": gain.low > 0}
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


def check_state(checks: pd.DataFrame) -> State:
    """Return whether every meter saw every training work; instructions beside them are not what is checked."""
    trained = checks[checks["dose"] > 0]
    if trained.empty:
        return "not run"
    return "passed" if trained["passed"].astype(bool).all() else "failed"


def check_text(checks: pd.DataFrame) -> str:
    """Return one line: the state, and for every arm which meters agreed."""
    arms = [_arm_text(str(arm), float(dose), rows) for (arm, dose), rows in checks.groupby(["arm", "dose"])]
    return f"manipulation_check: {check_state(checks)}" + (f" ({'; '.join(arms)})" if arms else "")


def _arm_text(arm: str, dose: float, rows: pd.DataFrame) -> str:
    direction = "colder" if arm.startswith("cold") else "warmer"
    said = {
        passed: [METERS[m] for m in rows.loc[rows["passed"].astype(bool) == passed, "meter"]]
        for passed in (True, False)
    }
    place = f"{arm}{f', {dose:g} epochs,' if dose else ''} is"
    if not said[True]:
        return f"{place} not {direction} by {_listed(said[False])}"
    parts = [f"by {_listed(said[True])}"] + [f"not by {_listed(said[False])}"] * bool(said[False])
    return f"{place} {direction} {' but '.join(parts)}"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
