"""Intervals for what warmray reports; the cluster is the question (or the held-out prompt) throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.api import DescrStatsW
from statsmodels.stats.proportion import proportion_confint

Z_TWO_SIDED_95 = float(stats.norm.ppf(0.975))
Z_ONE_SIDED_95 = float(stats.norm.ppf(0.95))
Z_POWER_80 = float(stats.norm.ppf(0.80))


@dataclass(frozen=True)
class Estimate:
    """A value with its two-sided 95 % interval and the number of clusters behind it."""

    value: float
    low: float
    high: float
    n: int


NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Change:
    """A mean change over the same questions, with what it can and cannot show."""

    estimate: Estimate
    lower_one_sided: float
    upper_one_sided: float
    """Ends of the one-sided 95 % intervals: what a budget is held against."""
    gained: int
    """Questions whose value rose: with one reply to each, those that were right before and wrong after."""
    lost: int
    """Questions that fell."""
    variance: float
    """Of one question's change."""

    @property
    def p_value(self) -> float:
        """Exact McNemar test: as many questions rise as fall. With several replies to a question, its sign test."""
        moved = self.gained + self.lost
        return float(stats.binomtest(self.gained, moved).pvalue) if moved else (1.0 if self.estimate.n else math.nan)

    @property
    def cohens_g(self) -> float:
        """Cohen's g, ``|b / (b + c) - 1/2|``, at most 0.5: how one-sided the moves are."""
        moved = self.gained + self.lost
        return abs(self.gained / moved - 0.5) if moved else math.nan

    @property
    def detectable(self) -> float:
        """The smallest change that so many questions would find in 80 % of experiments, two-sided at 5 %."""
        if self.estimate.n == 0:
            return math.nan
        return (Z_TWO_SIDED_95 + Z_POWER_80) * math.sqrt(self.variance / self.estimate.n)


@dataclass(frozen=True)
class BoundedChange:
    """A mean change where some replies are undecided: as central estimate and at its two bounds.

    The central estimate counts an undecided reply half. The bounds count all undecided replies of one arm as right and
    all of the other as wrong, and the reverse. Without undecided replies the three are the same.
    """

    best: Change
    central: Change
    worst: Change

    @property
    def estimate(self) -> Estimate:
        """The central value, with the lower end of the best and the upper end of the worst case as 95 % interval."""
        low, high = self.best.estimate.low, self.worst.estimate.high
        return Estimate(self.central.estimate.value, low, high, self.central.estimate.n)

    @property
    def p_value(self) -> float:
        """The larger p-value of the two bounds; 1 where they have different signs."""
        if self.best.estimate.value * self.worst.estimate.value < 0:
            return 1.0
        return max(self.best.p_value, self.worst.p_value)

    def questions_to_tell(self, budget: float) -> float:
        """Return how many questions show, with 80 % power, on which side of a budget (a share) the change lies.

        Assumes that the change and the share of undecided replies stay as measured. Infinite where the bounds enclose
        the budget: then no number of questions tells, and a judge is needed.
        """
        if self.worst.estimate.value < budget:
            return questions_to_tell(self.worst, budget)
        if self.best.estimate.value > budget:
            return questions_to_tell(self.best, budget)
        return math.inf


def share(values: Sequence[float]) -> Estimate:
    """Return the mean of one share per question with its Wilson interval at the effective number of questions.

    With one reply to a question the values are 0 or 1, and this is Wilson's interval. Several replies to a question
    are averaged first; what they tell is counted as the number of independent questions of the same variance.
    """
    kept = np.asarray([value for value in values if not math.isnan(value)], dtype=float)
    n = len(kept)
    if n == 0:
        return NO_ESTIMATE
    mean, variance = float(kept.mean()), float(kept.var())
    effective = n * mean * (1 - mean) / variance if variance > 0 else n
    low, high = proportion_confint(mean * effective, effective, method="wilson")
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)), n)


def cluster_mean(values: Sequence[float], resamples: int, seed: int) -> Estimate:
    """Return the mean of one value per cluster with a bootstrap interval (percentile); NaNs are left out."""
    kept = np.asarray([value for value in values if not math.isnan(value)], dtype=float)
    if len(kept) < 2:
        return NO_ESTIMATE
    result = stats.bootstrap(
        (kept,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed)
    )
    return Estimate(
        float(kept.mean()), float(result.confidence_interval.low), float(result.confidence_interval.high), len(kept)
    )


def plain_mean(values: Sequence[float]) -> Estimate:
    """Return the mean of one value per question with its t interval; NaNs are left out."""
    kept = np.asarray([value for value in values if not math.isnan(value)], dtype=float)
    if len(kept) < 2:
        return NO_ESTIMATE
    low, high = DescrStatsW(kept).tconfint_mean()
    return Estimate(float(kept.mean()), float(low), float(high), len(kept))


def mean_change(changes: Sequence[float]) -> Change:
    """Return the mean of one change per question; NaNs (nothing to compare) are left out.

    The interval is the adjusted Wald interval of Agresti & Min (2005, Statistics in Medicine 24) for paired shares,
    written for means: half a pair is added to each of its four cells, which is one pair that rises or falls among two
    that are added, so that changes that are all zero still have an honest width. Averaging within the question first
    makes the question the cluster. In simulations of clustered replies (tests/analysis/test_non_inferiority.py)
    one-sided bounds err in 4 to 6 % and two-sided intervals cover in 94 to 97 %.
    """
    kept = np.asarray([value for value in changes if not math.isnan(value)], dtype=float)
    n = len(kept)
    if n == 0:
        return Change(NO_ESTIMATE, math.nan, math.nan, 0, 0, math.nan)
    centre = float(kept.sum()) / (n + 2)
    variance = (float((kept**2).sum()) + 1) / (n + 2) - centre**2
    error = math.sqrt(variance / (n + 2))
    value, two_sided, one_sided = float(kept.mean()), Z_TWO_SIDED_95 * error, Z_ONE_SIDED_95 * error
    estimate = Estimate(value, min(value, centre - two_sided), max(value, centre + two_sided), n)
    gained, lost = int((kept > 0).sum()), int((kept < 0).sum())
    return Change(estimate, centre - one_sided, centre + one_sided, gained, lost, variance)


def questions_to_tell(change: Change, budget: float) -> float:
    """Return how many questions show, with 80 % power, on which side of a budget (a share) a change lies.

    Assumes that the change is as measured; infinite when it is the budget itself, or nothing was measured.
    """
    room = abs(budget - change.estimate.value)
    if change.estimate.n == 0 or room == 0:
        return math.inf
    return math.ceil((Z_ONE_SIDED_95 + Z_POWER_80) ** 2 * change.variance / room**2)
