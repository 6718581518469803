import numpy as np
import pandas as pd
import pytest

from tests.analysis.synthetic import tables, with_warm_prompt
from warmray.analysis.dose_response import dose_response, leaves_margin
from warmray.analysis.frontier import at_equal_warmth, frontier
from warmray.analysis.measures import measure
from warmray.analysis.resampling import draw

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _draws(data, resamples=400):
    rows = measure(data.replies)
    return draw(rows[rows["cell"] == "sad+wrong"], data.warmth, resamples, seed=0)


def test_the_curve_rises_with_warmth_and_its_band_holds_the_truth():
    curve = dose_response(_draws(tables(cost=0.15, questions=800, strengths=STRENGTHS)), "warmth")
    assert curve["fit"].is_monotonic_increasing
    truth = np.interp(curve["x"], [0.0, 0.1], [0.0, 0.3])  # 30 points at full strength, which is 0.1 nats warmer
    assert ((curve["low"] - 0.02 <= truth) & (truth <= curve["high"] + 0.02)).mean() > 0.9


def test_over_the_knob_the_axis_is_strength():
    curve = dose_response(_draws(tables(cost=0.1, strengths=STRENGTHS)), "strength")
    assert (curve["x"].min(), curve["x"].max()) == (0.0, 1.0)


def test_a_fall_by_chance_is_flattened_and_not_promised():
    curve = dose_response(_draws(tables(cost=-0.1, strengths=STRENGTHS)), "strength")
    assert curve["fit"].max() <= 0.02


def test_one_strength_makes_no_curve():
    assert dose_response(_draws(tables(cost=0.1, strengths=(0.0,))), "warmth").empty


def test_the_margin_is_left_where_an_interval_says_so():
    table = pd.DataFrame(
        {"arm": "warm", "dose": 1.0, "strength": STRENGTHS}
        | {"side_of_budget": ["PASS", "PASS", "INCONCLUSIVE", "BLOCK", "BLOCK"]}
    )
    row = leaves_margin(table).iloc[0]
    assert (row["inside"], row["over"]) == (0.25, 0.75)
    assert leaves_margin(table.assign(side_of_budget="INCONCLUSIVE")).iloc[0][["inside", "over"]].isna().all()


def test_what_is_colder_and_worse_beyond_chance_is_off_the_frontier():
    falling = frontier(_draws(tables(cost=0.2, warmth_gain=-0.1, questions=600)))
    assert falling["on_frontier"].tolist() == [True, False, False]
    assert falling["dominated_by"].tolist()[1:] == [0, 0]


def test_a_difference_that_could_be_chance_dominates_nothing():
    # Neither warmer nor worse but for noise.
    assert frontier(_draws(tables(cost=0.0, warmth_gain=0.0, questions=60)))["on_frontier"].all()


def test_an_instruction_is_compared_with_the_adapter_at_the_warmth_it_has():
    # The instructed arm is as warm as strength 0.5 and errs like the original: 20 points less than the adapter there.
    row = at_equal_warmth(_draws(with_warm_prompt(tables(cost=0.2, questions=1500)))).iloc[0]
    assert row["arm"] == "warm_prompt"
    assert row["more"] == pytest.approx(-0.2, abs=0.04)
    assert row["more_high"] < -0.1


def test_arms_outside_the_adapters_warmth_are_not_compared():
    data = with_warm_prompt(tables(cost=0.2))
    hotter = data.warmth.assign(sociot=data.warmth["sociot"] + 9 * (data.warmth["arm"] == "warm_prompt"))
    assert at_equal_warmth(_draws(type(data)(data.replies, hotter, data.anchors))).empty
