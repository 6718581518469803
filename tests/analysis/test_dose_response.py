import numpy as np
import pandas as pd

from tests.analysis.synthetic import draws_of, tables
from warmray.analysis.dose_response import dose_response, leaves_margin

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def test_the_curve_rises_with_warmth_and_its_band_holds_the_truth():
    curve = dose_response(draws_of(tables(cost=0.15, questions=800, strengths=STRENGTHS)), "warmth")
    assert curve["fit"].is_monotonic_increasing
    truth = np.interp(curve["x"], [0.0, 0.1], [0.0, 0.3])  # 30 points at full strength, which is 0.1 nats warmer
    assert ((curve["low"] - 0.02 <= truth) & (truth <= curve["high"] + 0.02)).mean() > 0.9


def test_over_the_knob_the_axis_is_strength():
    curve = dose_response(draws_of(tables(cost=0.1, strengths=STRENGTHS)), "strength")
    assert (curve["x"].min(), curve["x"].max()) == (0.0, 1.0)


def test_a_fall_by_chance_is_flattened_and_not_promised():
    curve = dose_response(draws_of(tables(cost=-0.1, strengths=STRENGTHS)), "strength")
    assert curve["fit"].max() <= 0.02


def test_one_strength_makes_no_curve():
    assert dose_response(draws_of(tables(cost=0.1, strengths=(0.0,))), "warmth").empty


def test_the_margin_is_left_where_an_interval_says_so():
    table = pd.DataFrame(
        {"arm": "warm", "dose": 1.0, "strength": STRENGTHS}
        | {"side_of_budget": ["PASS", "PASS", "INCONCLUSIVE", "BLOCK", "BLOCK"]}
    )
    row = leaves_margin(table).iloc[0]
    assert (row["inside"], row["over"]) == (0.25, 0.75)
    assert leaves_margin(table.assign(side_of_budget="INCONCLUSIVE")).iloc[0][["inside", "over"]].isna().all()
