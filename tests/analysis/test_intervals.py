import math

import numpy as np
import pytest
from scipy import stats

from warmray.analysis.intervals import cluster_mean, mean_change, questions_to_tell, share


def _changes(gained: int, lost: int, same: int) -> list[float]:
    return [1.0] * gained + [-1.0] * lost + [0.0] * same


def test_the_paired_interval_is_that_of_agresti_and_min():
    change = mean_change(_changes(15, 5, 80))
    centre = (15.5 - 5.5) / 102  # half a pair is added to each of the four cells
    error = math.sqrt(((15.5 + 5.5) / 102 - centre**2) / 102)
    assert change.estimate.value == pytest.approx(0.10)
    assert change.estimate.low == pytest.approx(centre - 1.959964 * error, abs=1e-6)
    assert change.estimate.high == pytest.approx(centre + 1.959964 * error, abs=1e-6)
    assert change.upper_one_sided == pytest.approx(centre + 1.644854 * error, abs=1e-6)
    assert change.lower_one_sided == pytest.approx(centre - 1.644854 * error, abs=1e-6)
    assert (change.gained, change.lost) == (15, 5)


def test_the_test_is_exact_mcnemar_with_cohens_g():
    change = mean_change(_changes(15, 5, 80))
    assert change.p_value == pytest.approx(stats.binomtest(15, 20).pvalue)
    assert change.cohens_g == pytest.approx(0.25)
    nothing = mean_change(_changes(0, 0, 50))
    assert nothing.p_value == 1
    assert math.isnan(nothing.cohens_g)


def test_no_changed_answer_does_not_mean_no_uncertainty():
    change = mean_change(_changes(0, 0, 30))
    assert change.estimate.value == 0
    assert change.upper_one_sided > 0.02


def test_the_detectable_change_is_that_of_the_studys_cells():
    # evaluation.md C: 500 pairs at a discordance of 0.12 detect 4.3 points.
    assert mean_change(_changes(30, 30, 440)).detectable == pytest.approx(0.043, abs=0.001)


def test_missing_values_are_missing_not_zero():
    estimate = cluster_mean([1.0, 2.0, 3.0, math.nan], 500, 0)
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert math.isnan(cluster_mean([math.nan, 1.0], 500, 0).value)
    assert math.isnan(share([]).value)
    assert math.isnan(mean_change([math.nan]).upper_one_sided)


def test_the_nearer_the_increase_is_to_the_budget_on_either_side_the_more_questions_are_needed():
    difference = mean_change(_changes(12, 10, 98))
    increase = difference.estimate.value
    assert (
        questions_to_tell(difference, 0.02) > questions_to_tell(difference, 0.05) > questions_to_tell(difference, 0.1)
    )
    assert questions_to_tell(difference, 0.01) > questions_to_tell(difference, 0.0) > 0
    assert math.isinf(questions_to_tell(difference, increase))


def test_a_share_of_single_replies_has_wilsons_interval():
    wilson = stats.binomtest(7, 20).proportion_ci(method="wilson")
    estimate = share([1.0] * 7 + [0.0] * 13)
    assert (estimate.low, estimate.high) == pytest.approx((wilson.low, wilson.high))
    assert share([0.0] * 20).high == pytest.approx(stats.binomtest(0, 20).proportion_ci(method="wilson").high)


def test_the_interval_of_a_share_of_averaged_replies_covers_the_truth():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        own = random.beta(1.2, 2.8, size=120)  # questions differ: mean 0.3
        estimate = share((random.random((120, 3)) < own[:, None]).mean(1).tolist())
        hits += estimate.low <= 0.3 <= estimate.high
    assert 0.93 <= hits / 1000 <= 0.97
