"""Intervals for what warmray reports; the cluster is the question (or the held-out prompt) throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

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
class PairedDifference:
    """A difference of shares on the same questions."""

    estimate: Estimate
    upper_one_sided: float
    """Upper end of the one-sided 95 % interval: what a budget is held against."""
    gained: int
    """Questions that were right before and wrong after."""
    lost: int
    """Questions that were wrong before and right after."""


def share(successes: int, n: int) -> Estimate:
    """Return a share with its Wilson interval."""
    if n == 0:
        return NO_ESTIMATE
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


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


def paired_difference(before: Sequence[bool], after: Sequence[bool]) -> PairedDifference:
    """Return the change of a share on paired questions.

    The interval is the adjusted Wald interval of Agresti & Min (2005, Statistics in Medicine 24): half a pair is added
    to each of the four cells, so that a cell without a single changed answer still has an honest width.
    """
    n = len(before)
    if n == 0:
        return PairedDifference(NO_ESTIMATE, math.nan, 0, 0)
    gained = sum(b < a for b, a in zip(before, after, strict=True))
    lost = sum(b > a for b, a in zip(before, after, strict=True))
    centre = (gained - lost) / (n + 2)
    error = math.sqrt(_variance(gained + 0.5, lost + 0.5, n + 2) / (n + 2))
    low, high = centre - Z_TWO_SIDED_95 * error, centre + Z_TWO_SIDED_95 * error
    estimate = Estimate((gained - lost) / n, max(-1.0, low), min(1.0, high), n)
    return PairedDifference(estimate, centre + Z_ONE_SIDED_95 * error, gained, lost)


def questions_to_tell(difference: PairedDifference, budget: float) -> float:
    """Return how many questions would show, with 80 % power, on which side of ``budget`` (a share) the increase is.

    Assumes that the increase is as measured; infinite when it is the budget itself, or nothing was measured.
    """
    room = abs(budget - difference.estimate.value)
    n = difference.estimate.n
    if n == 0 or room == 0:
        return math.inf
    variance = _variance(difference.gained + 0.5, difference.lost + 0.5, n + 2)
    return math.ceil((Z_ONE_SIDED_95 + Z_POWER_80) ** 2 * variance / room**2)


def _variance(gained: float, lost: float, n: float) -> float:
    """Variance of one pair's change."""
    return (gained + lost) / n - ((gained - lost) / n) ** 2
