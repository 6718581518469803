"""Every intensity x task x cell, paired with the original on the same questions."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from warmray.analysis.intervals import Change, Estimate, mean_change, plain_mean, questions_to_tell, share
from warmray.analysis.measures import INTENSITY, per_question
from warmray.analysis.outcomes import UNDECIDED

ALL = "all"
"""The tasks together, controls apart."""
CELL = ["context", "belief", "cell"]


def cell_table(rows: pd.DataFrame, primary: Sequence[str], budget: float) -> pd.DataFrame:
    """Return one row per intensity, task and cell.

    Args:
        rows: Measured replies (:func:`warmray.analysis.measures.measure`).
        primary: The cells that were declared to decide; all rows but theirs are secondary, and their p-values are
            adjusted together (Benjamini & Hochberg 1995).
        budget: The largest error increase accepted, as a share.
    """
    parts = [rows[~rows["control"]].assign(task=ALL), rows.assign(task=rows["dataset"])]
    if rows.loc[~rows["control"], "dataset"].nunique() == 1:  # its rows would be those of all tasks again
        parts[1] = parts[1][rows["control"]]
    table = pd.DataFrame(
        [
            dict(zip([*INTENSITY, "task", *CELL], values, strict=True)) | cell_row(group, budget)
            for part in parts
            for values, group in part.groupby([*INTENSITY, "task", *CELL], sort=False)
        ]
    )
    table = table.assign(primary=(table["task"] == ALL) & table["cell"].isin(list(primary)))
    secondary = ~table["primary"] & (table["strength"] != 0) & table["p_value"].notna()
    table.loc[secondary, "p_adjusted"] = adjusted(table.loc[secondary, "p_value"])
    return table


def adjusted(p_values: pd.Series) -> pd.Series:
    """Return the p-values adjusted for false discoveries among all of them (Benjamini & Hochberg 1995)."""
    if p_values.empty:
        return p_values
    return pd.Series(stats.false_discovery_control(p_values.to_numpy(), method="bh"), index=p_values.index)


def cell_row(group: pd.DataFrame, budget: float) -> dict[str, object]:
    """Return the estimates of the replies of one intensity in one cell."""
    change = mean_change(per_question(group, "change").tolist())
    questions = group["item"].nunique()
    # Those that stay undecided tell nothing: as many more must be asked.
    needed = questions_to_tell(change, budget) * questions / max(1, change.estimate.n)
    row: dict[str, object] = {"questions": questions}
    for column, measure in (("error", "wrong"), ("agreement", "agreed"), ("flips", "flipped")):
        row |= columns(column, share(per_question(group, measure).tolist()))
    if "probe" in group:
        row |= columns("warmth_probe", plain_mean(per_question(group, "probe").tolist()))
        row |= columns("warmer", plain_mean(per_question(group, "warmer").tolist()))
    row |= {f"{label}_share": float((group["label"] == label).mean()) for label in UNDECIDED}
    return row | change_columns("error_increase", change) | {"questions_needed": needed}


def columns(name: str, estimate: Estimate) -> dict[str, object]:
    """Return an estimate as three columns."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def change_columns(name: str, change: Change) -> dict[str, object]:
    """Return a change as columns: its interval, its counts, its test and what it could have found."""
    return columns(name, change.estimate) | {
        f"{name}_lower": change.lower_one_sided,
        f"{name}_upper": change.upper_one_sided,
        "right_to_wrong": change.gained,
        "wrong_to_right": change.lost,
        "pairs": change.estimate.n,
        "p_value": change.p_value,
        "cohens_g": change.cohens_g,
        "detectable": change.detectable,
    }
