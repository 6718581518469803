import math

import numpy as np
import pytest

from warmray.analysis.intervals import cluster_mean, paired_difference, questions_to_tell, share


def test_the_paired_interval_is_that_of_agresti_and_min():
    # n = 100, b = 15, c = 5: centre 10/102, variance ((16 + 6 - ... with half a pair added to every cell.
    before = [False] * 15 + [True] * 5 + [False] * 80
    after = [True] * 15 + [False] * 5 + [False] * 80
    difference = paired_difference(before, after)
    centre = (15.5 - 5.5) / 102
    error = math.sqrt(((15.5 + 5.5) / 102 - centre**2) / 102)
    assert difference.estimate.value == pytest.approx(0.10)
    assert difference.estimate.low == pytest.approx(centre - 1.959964 * error, abs=1e-6)
    assert difference.estimate.high == pytest.approx(centre + 1.959964 * error, abs=1e-6)
    assert difference.upper_one_sided == pytest.approx(centre + 1.644854 * error, abs=1e-6)
    assert (difference.gained, difference.lost) == (15, 5)


def test_no_changed_answer_does_not_mean_no_uncertainty():
    difference = paired_difference([False] * 30, [False] * 30)
    assert difference.estimate.value == 0
    assert difference.upper_one_sided > 0.02


def test_intervals_of_paired_differences_cover_the_truth():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        before = random.random(120) < 0.4
        after = np.where(random.random(120) < 0.2, random.random(120) < 0.6, before)
        truth = 0.2 * (0.6 - 0.4)
        estimate = paired_difference(before.tolist(), after.tolist()).estimate
        hits += estimate.low <= truth <= estimate.high
    assert 0.93 <= hits / 1000 <= 0.98


def test_missing_values_are_missing_not_zero():
    estimate = cluster_mean([1.0, 2.0, 3.0, math.nan], 500, 0)
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert math.isnan(cluster_mean([math.nan, 1.0], 500, 0).value)
    assert math.isnan(share(0, 0).value)


def test_the_nearer_the_increase_is_to_the_budget_on_either_side_the_more_questions_are_needed():
    difference = paired_difference([False] * 110 + [True] * 10, [True] * 12 + [False] * 108)
    increase = difference.estimate.value
    assert (
        questions_to_tell(difference, 0.02) > questions_to_tell(difference, 0.05) > questions_to_tell(difference, 0.1)
    )
    assert questions_to_tell(difference, 0.01) > questions_to_tell(difference, 0.0) > 0
    assert math.isinf(questions_to_tell(difference, increase))
