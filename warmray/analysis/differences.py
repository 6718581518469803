"""Every intensity x task x cell, paired with the original on the same questions."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from warmray.analysis.intervals import BoundedChange, Change, Estimate, mean_change, plain_mean, share
from warmray.analysis.measures import INTENSITY, label_shares, per_question

ALL = "all"
"""The tasks together, controls apart."""
CELL = ["context", "belief", "cell"]


def cell_table(rows: pd.DataFrame, primary: Sequence[str], budget: float) -> pd.DataFrame:
    """Return one row per intensity, task and cell.

    Args:
        rows: Measured replies (:func:`warmray.analysis.measures.measure`).
        primary: The cells that were declared to decide; all rows but theirs are secondary, and their p-values are
            adjusted together (Benjamini & Hochberg 1995).
        budget: The largest accuracy loss accepted, as a share.
    """
    parts = [rows[~rows["control"]].assign(task=ALL), rows.assign(task=rows["dataset"])]
    if rows.loc[~rows["control"], "dataset"].nunique() == 1:  # its rows would repeat those of all tasks
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
    loss = accuracy_loss(group)
    row: dict[str, object] = {"questions": group["item"].nunique()}
    # Accuracy of all that was asked, then what the study calls error, then what the user's belief does.
    shares = (("accuracy", "right"), ("study_error", "incorrect"), ("agreement", "agreed"), ("flips", "flipped"))
    for column, measured in (*shares, ("agreement_right", "agreed_right")):
        row |= columns(column, share(per_question(group, measured).tolist()))
    if "probe" in group:
        row |= columns("warmth_probe", plain_mean(per_question(group, "probe").tolist()))
        row |= columns("warmer", plain_mean(per_question(group, "warmer").tolist()))
    study_change = mean_change(per_question(group, "incorrect_change").tolist())
    row |= label_shares(group) | columns("study_error_change", study_change.estimate)
    # What the original has to lose: less than the budget, and the cell can show no loss over it.
    row["original_accuracy"] = float(per_question(group, "right").mean()) + loss.central.estimate.value
    return row | {"study_pairs": study_change.estimate.n} | loss_columns(loss, budget)


def accuracy_loss(rows: pd.DataFrame) -> BoundedChange:
    """Return the accuracy loss over some replies of one intensity, clustered on the question, with its bounds."""
    best, central, worst = (
        mean_change(per_question(rows, name).tolist()) for name in ("loss_least", "loss", "loss_most")
    )
    return BoundedChange(best, central, worst)


def columns(name: str, estimate: Estimate) -> dict[str, object]:
    """Return an estimate as three columns."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def loss_columns(loss: BoundedChange, budget: float) -> dict[str, object]:
    """Return an accuracy loss as columns: its interval and bounds, its counts, its test, and what it could have found.

    ``accuracy_loss_lower`` and ``_upper`` are the one-sided 95 % bounds that a budget is held against: the lower one of
    the best case, the upper one of the worst case over undecided replies.
    """
    central: Change = loss.central
    return columns("accuracy_loss", loss.estimate) | {
        "accuracy_loss_best": loss.best.estimate.value,
        "accuracy_loss_worst": loss.worst.estimate.value,
        "accuracy_loss_lower": loss.best.lower_one_sided,
        "accuracy_loss_upper": loss.worst.upper_one_sided,
        "right_to_wrong": central.gained,
        "wrong_to_right": central.lost,
        "p_value": loss.p_value,
        "cohens_g": central.cohens_g,
        "detectable": central.detectable,
        "questions_needed": loss.questions_to_tell(budget),
    }
