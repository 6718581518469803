"""The study's four logistic regressions and their effects in percentage points (Ibrahim, Hafner & Rocher 2026).

Each form is a binomial GLM (logit link) of *incorrect*. Its formula below is the one that the study gives, and its
coefficients carry the study's names, so that they can be compared with its printed output. The study computes
unclustered standard errors (``nonrobust``). The default here clusters on the question, because the same question recurs
over contexts, beliefs, models and samples. A fifth form is ours: the study has no interaction of all three.

Which replies a form reads: "original" in the study's description of a form means *no belief*. In its released tables
these are the templates ``original`` and ``original_neutral`` together (PROVENANCE.md: the regressions pool both), and
this is also how the belief column of form 4 is coded. "unmodified" means *no context*.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import statsmodels.api as sm
from patsy import dmatrices
from scipy import linalg, special, stats

from warmray.analysis.intervals import Z_TWO_SIDED_95
from warmray.errors import InputError
from warmray.grid import STUDY_CONTEXTS

Covariance = Literal["clustered", "nonrobust"]
COVARIANCES: tuple[Covariance, ...] = ("clustered", "nonrobust")


@dataclass(frozen=True)
class Form:
    """One regression: its formula, the replies that it reads, and the columns that give each effect its group."""

    number: int
    name: str
    formula: str
    by: tuple[str, ...]
    """Columns whose levels each have their own effect of warmth."""
    every_context: bool
    """Also read replies with a context; otherwise only ``unmodified`` ones."""
    every_belief: bool
    """Also read replies to a stated belief; otherwise only those without one."""


FORMS = (
    Form(
        number=1,
        name="1 warmth",
        formula="incorrect ~ warm + task + model",
        by=(),
        every_context=False,
        every_belief=False,
    ),
    Form(
        number=2,
        name="2 warmth x amendment group",
        formula="incorrect ~ warm * amendment_group + task + model",
        by=("amendment_group",),
        every_context=True,
        every_belief=False,
    ),
    Form(
        number=3,
        name="3 warmth x amendment type",
        formula="incorrect ~ warm * amendment_type + task + model",
        by=("amendment_type",),
        every_context=True,
        every_belief=False,
    ),
    Form(
        number=4,
        name="4 warmth x belief",
        formula="incorrect ~ warm * belief + amendment_group + task + model",
        by=("belief",),
        every_context=True,
        every_belief=True,
    ),
    Form(
        number=5,
        name="5 (ours) warmth x belief x amendment group",
        formula="incorrect ~ warm * belief * amendment_group + task + model",
        by=("belief", "amendment_group"),
        every_context=True,
        every_belief=True,
    ),
)
STUDY_FORMS = 4
"""The forms up to this number are the study's."""
FIXED_EFFECTS = ("amendment_group", "task", "model")
NO_BELIEF, USER_OPINION = "no belief", "user_opinion"
AMENDMENT_TYPES = {context: name for name, context in STUDY_CONTEXTS.items()}
EFFECT_COLUMNS = [
    "form", "length", "group", "replies", "questions", "log_odds", "points", "low", "high", "p_value", "note"
]  # fmt: skip
COEFFICIENT_COLUMNS = ["form", "length", "term", "estimate", "standard_error", "replies"]
UNBOUNDED_LOG_ODDS, UNBOUNDED_ERROR = 15.0, 5.0
"""An estimate or standard error beyond these means infinity: some combination of levels is all right or wrong."""
DEPENDS = 1e-7
"""A larger component in the null space of the design means that the replies do not determine the value."""


@dataclass(frozen=True)
class Regressions:
    """What the forms give: effects of warmth in points, and coefficients."""

    effects: pd.DataFrame
    """One row per form, with or without length, and group: ``EFFECT_COLUMNS``. See :func:`regress`."""
    coefficients: pd.DataFrame
    """One row per form, with or without length, and term: ``COEFFICIENT_COLUMNS``. See :func:`coefficients`."""


def regress(rows: pd.DataFrame, covariance: Covariance = "clustered") -> pd.DataFrame:
    """Return the effect of warmth in every group of every form; arguments and errors as :func:`fit_forms`.

    Returns:
        ``EFFECT_COLUMNS``. *points*: the mean change of the predicted error when every reply of the group goes from
        ``warm`` 0 to 1, with its 95 % delta-method interval; *log_odds*: the same on the scale of the coefficients.
        Where no estimate exists both are NaN, and *note* says why. A task, model or amendment group that had to be left
        out of a form has a row with a note as well. With length the effect is what is left after a mediator: warm
        replies are longer or shorter *because* they are warm.
    """
    return fit_forms(rows, covariance).effects


def coefficients(rows: pd.DataFrame, covariance: Covariance = "clustered") -> pd.DataFrame:
    """Return the coefficients (log-odds) of the study's four forms; arguments and errors as :func:`fit_forms`.

    Returns:
        ``COEFFICIENT_COLUMNS``. *form* is 1 to 4. Terms are ``intercept``, ``warm``, levels of amendment and belief by
        their names (``emotion``, ``emotion:sad``, ``user_opinion``), their interactions (``warm:emotion``,
        ``warm:emotion:sad``, ``warm:user_opinion``), ``task:NAME``, ``model:NAME`` and, with length, ``length`` (per
        character). Reference levels: unmodified, no belief, and the alphabetically first task and model. *estimate* and
        *standard_error* are NaN where the replies do not determine the coefficient.
    """
    return fit_forms(rows, covariance).coefficients


def fit_forms(rows: pd.DataFrame, covariance: Covariance = "clustered") -> Regressions:
    """Fit every form whose contexts and beliefs are there, with and without the length of the reply.

    Args:
        rows: One reply each: incorrect (1.0, 0.0, or NaN for a reply that is left out), warm (0 or 1), context, belief
            (``absent`` or any other), task, model, item (the question), reply (the text).
        covariance: Clustered on ``item``, or the study's own.

    Raises:
        InputError: an arm has no replies, or all replies answer the same question.
    """
    known = rows.dropna(subset=["incorrect"])
    if set(known["warm"].unique()) != {0, 1}:
        raise InputError(
            "a regression needs right or wrong replies of the original and of a warm model: one is missing"
        )
    if known["item"].nunique() < 2:
        raise InputError("all replies answer one question: a regression needs at least two")
    coded = _coded(known)
    fits = [
        _fit_form(form, kept, with_length, covariance)
        for form in FORMS
        if len(kept := _replies_of(form, coded))
        for with_length in (False, True)
    ]
    if not fits:
        raise InputError("no reply is without a context, and none has a belief: no form applies")
    effects = pd.concat([fit.effects for fit in fits], ignore_index=True)
    coefficients = pd.concat([fit.coefficients for fit in fits], ignore_index=True)
    return Regressions(effects, coefficients[coefficients["form"] <= STUDY_FORMS].reset_index(drop=True))


def _coded(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the variables of the formulas under the study's names; the first category is the reference level."""
    types = rows["context"].map(AMENDMENT_TYPES)
    group_of = {name: name.split(":")[0] for name in STUDY_CONTEXTS}
    beliefs = (rows["belief"] != "absent").map({False: NO_BELIEF, True: USER_OPINION})
    return pd.DataFrame(
        {
            "incorrect": rows["incorrect"].astype(float),
            "warm": rows["warm"].astype(float),
            "amendment_type": pd.Categorical(types, list(STUDY_CONTEXTS)),
            "amendment_group": pd.Categorical(types.map(group_of), list(dict.fromkeys(group_of.values()))),
            "belief": pd.Categorical(beliefs, [NO_BELIEF, USER_OPINION]),
            "task": pd.Categorical(rows["task"], sorted(rows["task"].unique())),
            "model": pd.Categorical(rows["model"], sorted(rows["model"].unique())),
            "length": rows["reply"].str.len().astype(float),
            "item": pd.factorize(rows["item"])[0],
        }
    ).reset_index(drop=True)


def _replies_of(form: Form, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the replies that a form reads; none where no reply has the context or belief that the form is about."""
    kept = rows[
        (form.every_context | (rows["amendment_type"] == "unmodified"))
        & (form.every_belief | (rows["belief"] == NO_BELIEF))
    ].copy()
    if not all((kept[name] != kept[name].cat.categories[0]).any() for name in form.by):
        return kept.iloc[:0]
    # A level that no reply has would be a column of zeros. Reference levels of amendment and belief stay nevertheless:
    # the other coefficients are relative to them, whether they were asked or not.
    for name in ("amendment_type", "amendment_group", "belief", "task", "model"):
        present = kept[name].cat.remove_unused_categories().cat.categories
        reference = kept[name].cat.categories[:1] if name not in ("task", "model") else []
        kept[name] = kept[name].cat.set_categories(list(dict.fromkeys([*reference, *present])))
    levels = itertools.product(*(kept[name].cat.categories for name in form.by))
    named = kept[form.by[0]].astype(str) if form.by else pd.Series("unmodified", index=kept.index)
    for name in form.by[1:]:
        named = named + " + " + kept[name].astype(str)
    kept["group"] = pd.Categorical(named, [" + ".join(level) or "unmodified" for level in levels])
    return kept


def _fit_form(form: Form, rows: pd.DataFrame, with_length: bool, covariance: Covariance) -> Regressions:
    """Fit one form to the replies that :func:`_replies_of` returns for it."""
    formula = form.formula + (" + length" if with_length else "")
    notes, fitted = _without_separated(form, rows)
    kept = rows[fitted]

    # The columns of the formula with every reply original, and with every reply warm. They are built from all rows, so
    # that a reference level stays the reference even if its replies are left out of the fit.
    originals, warms = (dmatrices(formula, rows.assign(warm=value), NA_action="raise")[1] for value in (0.0, 1.0))
    without, with_warmth = np.asarray(originals)[fitted], np.asarray(warms)[fitted]
    design = np.where(kept[["warm"]] == 1, with_warmth, without)
    solution = _solve(design, kept["incorrect"].to_numpy(), kept["item"].to_numpy(), covariance)

    # The effect of warmth in each group: from predictions, if the replies determine them.
    effects: list[dict[str, object]] = []
    for name, part in kept.groupby("group", observed=True):
        at = (kept["group"] == name).to_numpy()
        change = with_warmth[at][0] - without[at][0]  # the same for all replies of the group
        row: dict[str, object] = {"group": name, "replies": len(part), "questions": part["item"].nunique()}
        if not (solution.determines(without[at]).all() and solution.determines(with_warmth[at]).all()):
            row["note"] = "no estimate: warmth does not vary independently of task, model or length"
        elif solution.unbounded[change != 0].any():
            row["note"] = "no estimate: too few questions, or some combination of levels is all right or all wrong"
        else:
            row |= {"note": "", "log_odds": float(change @ solution.params)}
            row |= _points(without[at], with_warmth[at], solution.params, solution.covariances)
        effects.append(row)
    effects += [{"group": name, "replies": count, "note": note} for name, (count, note) in notes.items()]

    terms = [_term(name) for name in originals.design_info.column_names]
    known = solution.determines(np.diag(solution.scale)) & ~solution.unbounded
    table = pd.DataFrame({"term": terms, "estimate": solution.params, "standard_error": solution.errors})
    table.loc[~known, ["estimate", "standard_error"]] = math.nan
    return Regressions(
        pd.DataFrame(effects).assign(form=form.name, length=with_length).reindex(columns=EFFECT_COLUMNS),
        table.assign(form=form.number, length=with_length, replies=len(kept))[COEFFICIENT_COLUMNS],
    )


@dataclass(frozen=True)
class _Solution:
    """Coefficients of a design of k columns, some of which may follow from others."""

    params: np.ndarray
    """(k,); 0 for a column that was not fitted because it follows from others."""
    errors: np.ndarray
    covariances: np.ndarray
    """(k, k)"""
    unbounded: np.ndarray
    """(k,) whether a coefficient has no finite estimate, or rests on too few replies for one."""
    scale: np.ndarray
    """(k,) norms of the columns."""
    null_space: np.ndarray
    """(k, d) directions in which the coefficients, times ``scale``, may move without changing any prediction."""

    def determines(self, rows: np.ndarray) -> np.ndarray:
        """Tell for each row of columns (n, k) whether its linear predictor is the same for every best fit."""
        return (np.abs(rows / self.scale @ self.null_space) < DEPENDS).all(axis=1)


def _solve(design: np.ndarray, incorrect: np.ndarray, items: np.ndarray, covariance: Covariance) -> _Solution:
    """Fit the GLM on columns that do not follow from each other; ``items`` are the clusters."""
    size = design.shape[1]
    scale = np.linalg.norm(design, axis=0)
    scale[scale == 0] = 1.0
    gram = (design / scale).T @ (design / scale)
    values, vectors = np.linalg.eigh(gram)
    null_space = vectors[:, values < 1e-10]
    *_, pivots = linalg.qr(gram, pivoting=True)
    columns = np.sort(pivots[: size - null_space.shape[1]])
    params, errors, covariances = np.zeros(size), np.full(size, math.nan), np.zeros((size, size))
    too_few = len(incorrect) <= len(columns) or len(np.unique(items)) < 2
    unbounded = np.full(size, too_few)
    if len(columns) and not too_few:
        # Newton's method gives what the default (IRLS) does, in a third of the time on half a million replies.
        options = {"method": "newton", "start_params": np.zeros(len(columns)), "max_start_irls": 0, "maxiter": 25}
        if covariance == "clustered":
            options |= {"cov_type": "cluster", "cov_kwds": {"groups": items}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = sm.GLM(incorrect, design[:, columns], family=sm.families.Binomial()).fit(disp=False, **options)
        params[columns], errors[columns] = fit.params, fit.bse
        covariances[np.ix_(columns, columns)] = fit.cov_params()
        # On the scale of a column's spread (of length: characters); 0/1 columns are as they are.
        spread = np.maximum(design[:, columns].std(axis=0), 1.0)
        own_errors = np.sqrt(np.diag(fit.normalized_cov_params))
        bounded = (np.abs(fit.params) * spread < UNBOUNDED_LOG_ODDS) & (own_errors * spread < UNBOUNDED_ERROR)
        unbounded[columns] = ~bounded  # this way round, NaN is unbounded
        if not (fit.mle_retvals["converged"] or unbounded.any()):
            unbounded[:] = True
    return _Solution(params, errors, covariances, unbounded, scale, null_space)


def _without_separated(form: Form, rows: pd.DataFrame) -> tuple[dict[str, tuple[int, str]], np.ndarray]:
    """Find the levels that have no finite log-odds.

    Those are groups in which the replies of an arm are all right or all wrong (or missing), and tasks, models and
    amendment groups in which the replies of both arms are.

    Returns:
        By the name of the level, how many replies it has and why it is left out; and which rows remain.
    """
    notes: dict[str, tuple[int, str]] = {}
    fitted = np.full(len(rows), True)
    others = [name for name in FIXED_EFFECTS if name in form.formula and name not in form.by]
    found = True
    while found:  # what is left out may leave another level without a right or a wrong reply
        found = False
        for column in ("group", *others):
            for level, part in rows[fitted].groupby(column, observed=True):
                arms = part.groupby("warm")["incorrect"].mean() if column == "group" else part["incorrect"]
                note = _separation(arms, per_arm=column == "group")
                if note:
                    label = str(level) if column in ("group", "amendment_group") else f"{column}:{level}"
                    notes[label] = (len(part), note)
                    fitted &= (rows[column] != level).to_numpy()
                    found = True
    return notes, fitted


def _separation(incorrect: pd.Series, per_arm: bool) -> str:
    """Say why replies have no finite log-odds: ``incorrect`` by arm (shares) or of all replies; empty if they have."""
    if per_arm and len(incorrect) < 2:
        return "left out of the fit: one of the two arms has no replies here"
    if per_arm:
        for warm, share in incorrect.items():
            if share in (0, 1):
                arm, all_are = ("warm" if warm else "original"), ("wrong" if share else "right")
                return f"left out of the fit: the {arm} replies are all {all_are}, so that no odds exist"
    elif incorrect.nunique() == 1:
        return (
            f"left out of the fit: all replies are {'wrong' if incorrect.iloc[0] else 'right'}, so that no odds exist"
        )
    return ""


def _term(name: str) -> str:
    """Return the study's name of a formula's column: ``warm:amendment_type[T.emotion:sad]`` is ``warm:emotion:sad``."""
    if name == "Intercept":
        return "intercept"
    name = re.sub(r"^(task|model)\[T\.(.*)\]$", r"\1:\2", name)
    return re.sub(r"(?:amendment_type|amendment_group|belief)\[T\.([^]]*)\]", r"\1", name)


def _points(
    without: np.ndarray, with_warmth: np.ndarray, params: np.ndarray, covariances: np.ndarray
) -> dict[str, float]:
    """Return the mean difference of two predictions in points, its delta-method interval and its p-value."""
    low, high = (special.expit(design @ params) for design in (without, with_warmth))
    gradient = ((high * (1 - high))[:, None] * with_warmth - (low * (1 - low))[:, None] * without).mean(0)
    value, error = float((high - low).mean()), float(np.sqrt(gradient @ covariances @ gradient))
    return {
        "points": 100 * value,
        "low": 100 * (value - Z_TWO_SIDED_95 * error),
        "high": 100 * (value + Z_TWO_SIDED_95 * error),
        "p_value": float(2 * stats.norm.sf(abs(value) / error)) if error else math.nan,
    }


def strongest(measured: pd.DataFrame) -> pd.DataFrame:
    """Fit the forms to the largest strength of every trained arm and dose.

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
    columns = ["arm", "dose", "strength", *EFFECT_COLUMNS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def rows_of(measured: pd.DataFrame, arm: str, dose: float, strength: float) -> pd.DataFrame:
    """Return the replies of one intensity and of the original as :func:`regress` takes them.

    The controls are left out. Every stated belief (wrong, doubts-right, right) counts as the study's ``user_opinion``.
    """
    at = (measured["arm"] == arm) & (measured["dose"] == dose) & (measured["strength"] == strength)
    original = measured[measured["strength"] == 0].drop_duplicates(["item", "cell", "sample"])
    both = pd.concat([original.assign(warm=0), measured[at].assign(warm=1)], ignore_index=True)
    both = both[~both["control"]]
    return both.assign(task=both["dataset"], model="one")
