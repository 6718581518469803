"""From labelled replies and warmth scores to one row of estimates per intensity, and the tables beside it.

The primary outcome is the *accuracy loss*: the share of all asked questions that the original answers right, less the
same share for the intensity, on the same questions (:mod:`.measures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd

from warmray.analysis.calibration import CORRECTED_COLUMNS, Calibration, corrected_loss
from warmray.analysis.differences import ALL, accuracy_loss, cell_table, columns
from warmray.analysis.dose_response import Axis, dose_response
from warmray.analysis.frontier import at_equal_warmth, frontier
from warmray.analysis.interactions import interactions
from warmray.analysis.intervals import NO_ESTIMATE, Change, Estimate, cluster_mean, mean_change
from warmray.analysis.manipulation import METERS, State, check_warmth, manipulation_state, orders_anchors
from warmray.analysis.measures import INTENSITY, audit, label_shares, measure, per_question
from warmray.analysis.non_inferiority import decide
from warmray.analysis.regressions import strongest
from warmray.analysis.resampling import draw


@dataclass(frozen=True)
class Tables:
    """What an analysis needs; the first two have the columns arm, dose and strength."""

    replies: pd.DataFrame
    """item, dataset, control, context, belief, cell, sample, question, prompt, reply, tokens, was_cut, label, right,
    agrees_with_wrong, judge_label, decided_by, evidence; probe, where these replies were probed"""
    warmth: pd.DataFrame
    """prompt, reply, and a column per meter"""
    anchors: pd.DataFrame
    """prompt, variant (cold or warm), and a column per meter"""

    @property
    def meters(self) -> list[str]:
        """The meters that were used."""
        return [meter for meter in METERS if meter in self.warmth]


@dataclass(frozen=True)
class DecisionRule:
    """What is to be decided, and how finely."""

    budget: float
    """The largest accuracy loss accepted, as a share (0.1 for 10 points)."""
    primary: Sequence[str]
    """The cells that decide."""
    resamples: int = 2000
    """Of every bootstrap."""
    seed: int = 0
    calibration: Calibration | None = None
    """The judge's errors; the accuracy loss is then also given corrected for them."""


@dataclass(frozen=True)
class Estimates:
    """All that was estimated, as tables."""

    intensities: pd.DataFrame
    """One row per intensity."""
    cells: pd.DataFrame
    """One row per intensity, task and cell: see :func:`warmray.analysis.differences.cell_table`."""
    interactions: pd.DataFrame
    """See :func:`warmray.analysis.interactions.interactions`."""
    countings: pd.DataFrame
    """The deciding cells under every way to count: see :func:`count_otherwise`."""
    curves: pd.DataFrame
    """See :func:`warmray.analysis.dose_response.dose_response`; over measured warmth, and over strength."""
    equal_warmth: pd.DataFrame
    """See :func:`warmray.analysis.frontier.at_equal_warmth`."""
    regressions: pd.DataFrame
    """See :func:`warmray.analysis.regressions.strongest`."""
    checks: pd.DataFrame
    """See :func:`warmray.analysis.manipulation.check_warmth`."""
    audits: pd.DataFrame
    """See :func:`warmray.analysis.measures.audit`."""
    corrected: pd.DataFrame
    """See :func:`warmray.analysis.calibration.corrected_loss`; no row without a calibration."""

    @property
    def manipulation_check(self) -> State:
        """Whether every meter saw every training make the model warmer (or colder, for a cold arm)."""
        return manipulation_state(self.checks)

    @property
    def manipulation_check_passed(self) -> bool:
        """The cost of warmth can be stated."""
        return self.manipulation_check == "passed"


def estimate(tables: Tables, rule: DecisionRule) -> Estimates:
    """Estimate everything for every intensity.

    Raises:
        InputError: the replies allow no fair comparison (see :func:`warmray.analysis.measures.check_replies`).
    """
    rows = measure(tables.replies)
    cells = cell_table(rows, rule.primary, rule.budget)
    # One row per intensity: its warmth, its replies, its cells, and what the deciding cells say.
    found: list[dict[str, object]] = []
    for values, group in rows.groupby(INTENSITY, sort=True):
        intensity = dict(zip(INTENSITY, values, strict=True))
        own_cells = _at(cells, intensity)
        found.append(
            intensity
            | _warmth_columns(_at(tables.warmth, intensity), tables, rule)
            | _reply_columns(group, rule)
            | _cell_columns(own_cells)
            | _primary_columns(own_cells, rule)
        )
    # The curves see the same draws of questions and prompts for every intensity.
    deciding = rows[~rows["control"] & rows["cell"].isin(list(rule.primary))]
    draws = draw(deciding, tables.warmth, rule.resamples, rule.seed)
    return Estimates(
        intensities=pd.DataFrame(found).merge(frontier(draws), on=INTENSITY, how="left"),
        cells=cells,
        interactions=interactions(rows),
        countings=count_otherwise(deciding),
        curves=pd.concat([dose_response(draws, axis) for axis in get_args(Axis)], ignore_index=True),
        equal_warmth=at_equal_warmth(draws),
        regressions=strongest(rows),
        checks=check_warmth(tables.warmth, tables.anchors, rule.resamples, rule.seed),
        audits=audit(rows),
        corrected=_corrected(deciding, rule),
    )


def _at(table: pd.DataFrame, intensity: dict[str, object]) -> pd.DataFrame:
    return table[(table[INTENSITY] == pd.Series(intensity)[INTENSITY]).all(axis=1)]


def _warmth_columns(warmth: pd.DataFrame, tables: Tables, rule: DecisionRule) -> dict[str, object]:
    """Return the mean of every meter, raw and on the scale where the cold anchor is 0 and the warm anchor 1."""
    row: dict[str, object] = {}
    for meter in tables.meters:
        raw = cluster_mean(warmth[meter].tolist(), rule.resamples, rule.seed)
        anchored = NO_ESTIMATE
        if orders_anchors(tables.anchors, meter):
            anchors = tables.anchors.groupby("variant")[meter].mean()
            cold, warm = float(anchors["cold"]), float(anchors["warm"])
            value, low, high = ((x - cold) / (warm - cold) for x in (raw.value, raw.low, raw.high))
            anchored = Estimate(value, low, high, raw.n)
        row |= columns(f"warmth_{meter}", raw) | columns(f"warmth_{meter}_anchored", anchored)
        row[f"warmth_{meter}_missing"] = int(warmth[meter].isna().sum())
    return row


def _reply_columns(group: pd.DataFrame, rule: DecisionRule) -> dict[str, object]:
    """Return what all replies of one intensity show, controls apart."""
    asked = group[~group["control"]]
    row: dict[str, object] = {}
    for name, measured in (
        ("accuracy", "right"),
        ("study_error", "incorrect"),
        ("sycophancy", "flipped"),
        ("sycophancy_own", "flipped_own"),
        ("agreement_right", "agreed_right"),
    ):
        row |= columns(name, cluster_mean(per_question(asked, measured).tolist(), rule.resamples, rule.seed))
    row |= label_shares(asked)
    for control, part in group[group["control"]].groupby("dataset"):
        row[f"accuracy_{control}"] = float(per_question(part, "right").mean())
    return row | {"tokens_per_reply": float(asked["tokens"].mean())}


def _cell_columns(cells: pd.DataFrame) -> dict[str, object]:
    """Return what the tasks together show: every cell, and the one that loses most accuracy."""
    table = cells[cells["task"] == ALL]
    worst = table.loc[table["accuracy_loss"].idxmax()]
    row: dict[str, object] = {f"accuracy_{cell}": v for cell, v in zip(table["cell"], table["accuracy"], strict=True)}
    row |= {f"accuracy_loss_{cell}": v for cell, v in zip(table["cell"], table["accuracy_loss"], strict=True)}
    ends = {f"worst_case_accuracy_loss{end}": worst[f"accuracy_loss{end}"] for end in ("", "_low", "_high")}
    return row | {"worst_case_cell": worst["cell"]} | ends


def _primary_columns(cells: pd.DataFrame, rule: DecisionRule) -> dict[str, object]:
    """Return what the deciding cells show; all must stay inside the budget, so their largest bounds decide."""
    table = cells[cells["primary"]]
    worst = table.loc[table["accuracy_loss"].idxmax()]
    over = worst["accuracy_loss"] >= rule.budget
    ends = {f"primary_accuracy_loss{end}": worst[f"accuracy_loss{end}"] for end in ("", "_low", "_high")}
    return ends | {
        "primary_cell": worst["cell"],
        "primary_lower": table["accuracy_loss_lower"].max(),
        "primary_upper": table["accuracy_loss_upper"].max(),
        "primary_undecided": table["undecided_share"].max(),
        "questions_needed": worst["questions_needed"] if over else table["questions_needed"].max(),
        "side_of_budget": decide(table, "", rule.budget, "passed").verdict,
    }


def _corrected(deciding: pd.DataFrame, rule: DecisionRule) -> pd.DataFrame:
    if rule.calibration is None:
        return pd.DataFrame(columns=CORRECTED_COLUMNS)
    undecided = deciding["label"] == "undecided"
    return corrected_loss(
        deciding.assign(right=deciding["right"].mask(undecided)), rule.calibration, rule.resamples, rule.seed
    )


def count_otherwise(deciding: pd.DataFrame) -> pd.DataFrame:
    """Return the deciding cells of every intensity under every way to count what is neither right nor wrong.

    Returns:
        arm, dose, strength, cell, counting, change, change_low, change_high, questions: accuracy lost with undecided
        replies counted half, in the best and in the worst case, and the rise of the study's error, which leaves out
        refused and unanswered questions.
    """
    found: list[dict[str, object]] = []
    for values, group in deciding[deciding["strength"] != 0].groupby([*INTENSITY, "cell"], sort=False):
        loss = accuracy_loss(group)
        study = mean_change(per_question(group, "incorrect_change").tolist())
        ways: list[tuple[str, Change]] = [("accuracy loss", loss.central)]
        if loss.best != loss.worst:
            ways = [("accuracy loss, undecided replies count half", loss.central)]
            ways += [("accuracy loss, best case", loss.best), ("accuracy loss, worst case", loss.worst)]
        ways += [("study's error: incorrect among answered", study)]
        for counting, change in ways:
            row = dict(zip([*INTENSITY, "cell"], values, strict=True)) | {"counting": counting}
            found.append(row | columns("change", change.estimate) | {"questions": change.estimate.n})
    names = [*INTENSITY, "cell", "counting", "change", "change_low", "change_high", "questions"]
    return pd.DataFrame(found, columns=names)
