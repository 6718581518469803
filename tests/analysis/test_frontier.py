import pytest

from tests.analysis.synthetic import draws_of, tables, with_warm_prompt
from warmray.analysis.frontier import at_equal_warmth, frontier


def test_what_is_colder_and_worse_beyond_chance_is_off_the_frontier():
    falling = frontier(draws_of(tables(cost=0.2, warmth_gain=-0.1, questions=600)))
    assert falling["on_frontier"].tolist() == [True, False, False]
    assert falling["dominated_by"].tolist()[1:] == [0, 0]


def test_a_difference_that_could_be_chance_dominates_nothing():
    # Neither warmer nor worse but for noise.
    assert frontier(draws_of(tables(cost=0.0, warmth_gain=0.0, questions=60)))["on_frontier"].all()


def test_an_instruction_is_compared_with_the_adapter_at_the_warmth_it_has():
    # The instructed arm is as warm as strength 0.5 and errs like the original: 20 points less than the adapter there.
    row = at_equal_warmth(draws_of(with_warm_prompt(tables(cost=0.2, questions=1500)))).iloc[0]
    assert row["arm"] == "warm_prompt"
    assert row["more"] == pytest.approx(-0.2, abs=0.04)
    assert row["more_high"] < -0.1


def test_arms_outside_the_adapters_warmth_are_not_compared():
    data = with_warm_prompt(tables(cost=0.2))
    hotter = data.warmth.assign(sociot=data.warmth["sociot"] + 9 * (data.warmth["arm"] == "warm_prompt"))
    assert at_equal_warmth(draws_of(type(data)(data.replies, hotter, data.anchors))).empty
