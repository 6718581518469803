"""The study's four logistic regressions, with its effects in percentage points (Ibrahim, Hafner & Rocher 2026).

Each is a binomial GLM of *wrong* on *warm* with fixed effects for task and model; the forms differ in what *warm*
interacts with. An effect is the mean change of the predicted error when every reply of a group is made warm,
with an interval from the delta method. The covariance is clustered on the question: the same question recurs over
contexts, beliefs and samples, which the study's own (``nonrobust``) leaves out of account.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from warmray.analysis.intervals import Z_TWO_SIDED_95
from warmray.errors import InputError
from warmray.grid import CONTEXT_GROUPS

Covariance = Literal["clustered", "nonrobust"]
COVARIANCES: tuple[Covariance, ...] = ("clustered", "nonrobust")


@dataclass(frozen=True)
class Form:
    """One of the four forms: what *warm* interacts with, and the replies that it is fitted on."""

    name: str
    by: tuple[str, ...]
    """Columns whose levels each get an effect of warmth of their own."""
    with_context: bool
    with_belief: bool


FORMS = (
    Form("warmth", (), with_context=False, with_belief=False),
    Form("warmth x context group", ("context_group",), with_context=True, with_belief=False),
    Form("warmth x context", ("context",), with_context=True, with_belief=False),
    Form("warmth x belief", ("belief", "context_group"), with_context=True, with_belief=True),
)
COLUMNS = ["form", "length", "group", "replies", "questions", "log_odds", "points", "low", "high", "p_value", "note"]


def regress(rows: pd.DataFrame, covariance: Covariance = "clustered") -> pd.DataFrame:
    """Fit the four forms, each with and without the length of the reply.

    Args:
        rows: One reply each: wrong (0 or 1), warm (0 or 1), context, belief, task, model, item, words.
        covariance: Clustered on ``item``, or the study's own.

    Returns:
        One row per form, with or without length, and group: the effect of warmth there in points with its 95 %
        interval, and the log-odds (of the form without interaction; NaN elsewhere). Where a group's replies are all
        right or all wrong in either arm no odds exist, and ``note`` says so. With length the effect is what is left
        after a mediator: warm replies are longer or shorter *because* they are warm.

    Raises:
        InputError: there are no replies of one of the two arms, or of fewer than two questions.
    """
    known = rows.dropna(subset=["wrong"])
    if set(known["warm"].unique()) != {0, 1}:
        raise InputError("a regression needs replies of the original and of a warm model: one of the two is missing")
    if known["item"].nunique() < 2:
        raise InputError("all replies are to one question: nothing can be told from one (give at least two)")
    known = known.assign(context_group=known["context"].map(CONTEXT_GROUPS))
    parts = [
        _form(form, known, with_length, covariance)
        for form in FORMS
        for with_length in (False, True)
        if _applies(form, known)
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _applies(form: Form, rows: pd.DataFrame) -> bool:
    """Leave out the forms whose contexts or beliefs nobody asked for."""
    asked = ((rows["context"] != "none").any() and not form.with_belief) or (rows["belief"] != "absent").any()
    return not form.by or bool(asked)


def _form(form: Form, rows: pd.DataFrame, with_length: bool, covariance: Covariance) -> pd.DataFrame:
    kept = rows[(form.with_context | (rows["context"] == "none")) & (form.with_belief | (rows["belief"] == "absent"))]
    group = kept[list(form.by)].agg("+".join, axis=1) if form.by else pd.Series("all", index=kept.index)
    kept = kept.assign(group=group, log_words=np.log1p(kept["words"].astype(float)))
    separated = _separated(kept)
    fitted = kept[~kept["group"].isin(separated)]
    found = [
        {"group": name, "replies": int((kept["group"] == name).sum()), "note": why} for name, why in separated.items()
    ]
    if len(fitted):
        found += _effects(fitted, with_length, covariance)
    table = pd.DataFrame(found, columns=[c for c in COLUMNS if c not in ("form", "length")])
    return table.assign(form=form.name, length=with_length)


def _separated(rows: pd.DataFrame) -> dict[str, str]:
    """Return the groups that allow no odds: an arm is missing there, or all right, or all wrong."""
    means = rows.groupby(["group", "warm"])["wrong"].mean().unstack()
    found: dict[str, str] = {}
    for group, arms in means.iterrows():
        if arms.isna().any():
            found[str(group)] = "one of the two arms has no replies here"
        elif ((arms == 0) | (arms == 1)).any():
            arm = "warm" if arms.get(1) in (0, 1) else "original"
            found[str(group)] = f"the {arm} replies are all {'wrong' if arms.max() == 1 else 'right'}: no odds exist"
    return found


def _effects(rows: pd.DataFrame, with_length: bool, covariance: Covariance) -> list[dict[str, object]]:
    levels = {name: sorted(rows[name].unique()) for name in ("group", "task", "model")}
    fit = _fit(rows, _design(rows, levels, with_length), covariance)
    if fit is None:
        note = "no estimate: task, model or length leave nothing to tell, or some are all right or all wrong"
        return [{"group": name, "replies": len(part), "note": note} for name, part in rows.groupby("group")]
    effects = []
    for name, part in rows.groupby("group"):
        without, with_warmth = (
            _design(part.assign(warm=value), levels, with_length).to_numpy(dtype=float) for value in (0, 1)
        )
        effects.append(
            {"group": name, "replies": len(part), "questions": part["item"].nunique(), "note": ""}
            | {"log_odds": float(fit.params["warm"]) if "warm" in fit.params else math.nan}
            | _points(without, with_warmth, fit.params.to_numpy(), fit.cov_params().to_numpy())
        )
    return effects


def _design(rows: pd.DataFrame, levels: dict[str, list[str]], with_length: bool) -> pd.DataFrame:
    """Return the columns of a model: intercept, group, warmth (in every group), task, model, length."""
    columns = {"intercept": pd.Series(1.0, index=rows.index)}
    for name in ("group", "task", "model"):
        columns |= {f"{name}={level}": (rows[name] == level).astype(float) for level in levels[name][1:]}
    groups = levels["group"]
    if len(groups) == 1:
        columns["warm"] = rows["warm"].astype(float)
    else:
        columns |= {f"warm:{level}": rows["warm"] * (rows["group"] == level).astype(float) for level in groups}
    if with_length and rows["log_words"].nunique() > 1:
        columns["log_words"] = rows["log_words"]
    return pd.DataFrame(columns)


def _fit(
    rows: pd.DataFrame, design: pd.DataFrame, covariance: Covariance
) -> sm.genmod.generalized_linear_model.GLMResults | None:
    if np.linalg.matrix_rank(design.T @ design) < design.shape[1]:  # columns that tell the same: a task in one arm only
        return None
    options = (
        {"cov_type": "cluster", "cov_kwds": {"groups": pd.factorize(rows["item"])[0]}}
        if covariance == "clustered"
        else {}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = sm.GLM(rows["wrong"].astype(float), design, family=sm.families.Binomial()).fit(**options)
    sane = np.isfinite(fit.bse).all() and (np.abs(fit.params) < 15).all()
    return fit if fit.converged and sane else None


def _points(
    without: np.ndarray, with_warmth: np.ndarray, params: np.ndarray, covariance: np.ndarray
) -> dict[str, float]:
    """Return the mean difference of two predictions in points, its delta-method interval and its p-value."""
    low, high = (1 / (1 + np.exp(-design @ params)) for design in (without, with_warmth))
    gradient = ((high * (1 - high))[:, None] * with_warmth - (low * (1 - low))[:, None] * without).mean(0)
    value, error = float((high - low).mean()), float(np.sqrt(gradient @ covariance @ gradient))
    return {
        "points": 100 * value,
        "low": 100 * (value - Z_TWO_SIDED_95 * error),
        "high": 100 * (value + Z_TWO_SIDED_95 * error),
        "p_value": float(2 * stats.norm.sf(abs(value) / error)) if error else math.nan,
    }


def strongest(measured: pd.DataFrame) -> pd.DataFrame:
    """Fit the four forms to the largest strength of every trained arm and dose.

    Returns:
        The columns of :func:`regress` after arm, dose and strength; no row where there is nothing to fit.
    """
    parts = []
    trained = measured[(measured["dose"] > 0) & (measured["strength"] > 0)]
    for (arm, dose), group in trained.groupby(["arm", "dose"]):
        strength = group["strength"].max()
        with contextlib.suppress(InputError):
            table = regress(rows_of(measured, str(arm), float(dose), float(strength)))
            parts.append(table.assign(arm=arm, dose=dose, strength=strength))
    columns = ["arm", "dose", "strength", *COLUMNS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def rows_of(measured: pd.DataFrame, arm: str, dose: float, strength: float) -> pd.DataFrame:
    """Return the replies of one intensity and of the original as :func:`regress` takes them."""
    at = (measured["arm"] == arm) & (measured["dose"] == dose) & (measured["strength"] == strength)
    original = measured[measured["strength"] == 0].drop_duplicates(["item", "cell", "sample"])
    both = pd.concat([original.assign(warm=0), measured[at].assign(warm=1)], ignore_index=True)
    both = both[~both["control"]]
    return both.assign(
        wrong=both["incorrect"], task=both["dataset"], model="one", words=both["reply"].str.split().str.len()
    )
