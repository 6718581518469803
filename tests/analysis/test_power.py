import math

import numpy as np
import pytest

from warmray.analysis.intervals import mean_change
from warmray.analysis.power import (
    certifiable_margin,
    detectable_change,
    least_margin,
    power_table,
    questions_to_certify,
)


@pytest.mark.parametrize(
    ("margin", "discordance", "questions"),
    [(0.05, 0.10, 247), (0.03, 0.10, 687), (0.02, 0.10, 1546), (0.05, 0.20, 495), (0.03, 0.20, 1374)],
)
def test_the_numbers_of_the_fields_table_come_out(margin, discordance, questions):
    assert questions_to_certify(margin, discordance) == pytest.approx(questions, abs=1)


def test_what_a_number_of_questions_certifies_is_the_inverse():
    assert certifiable_margin(687, 0.10) == pytest.approx(0.03, abs=1e-4)
    assert certifiable_margin(500, 0.2, loss=0.01) > certifiable_margin(500, 0.2)


def test_no_number_of_questions_certifies_a_loss_that_is_over_the_budget():
    assert math.isinf(questions_to_certify(0.02, 0.1, loss=0.02))


def test_the_promised_power_is_reached():
    random = np.random.default_rng(0)
    questions = int(questions_to_certify(0.05, 0.2))
    passed = [
        mean_change(random.choice([-1.0, 0.0, 1.0], size=questions, p=[0.1, 0.8, 0.1]).tolist()).upper_one_sided < 0.05
        for _ in range(1000)
    ]
    assert 0.77 <= np.mean(passed) <= 0.84


def test_not_even_unchanged_answers_certify_less_than_the_least_margin():
    unchanged = mean_change([0.0] * 50).upper_one_sided
    assert unchanged == pytest.approx(least_margin(50), rel=0.01)


def test_the_table_tells_what_there_is_questions_for():
    table = power_table({"a": 0.1, "b": 0.3}, 0.03, 500)
    assert table["certifiable_points"].is_monotonic_increasing
    assert table.loc[0, "detectable_points"] == pytest.approx(100 * detectable_change(500, 0.1))
    assert "certifiable_points" not in power_table({"a": 0.1}, 0.03, None)
