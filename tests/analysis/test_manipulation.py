import pandas as pd
import pytest

from tests.analysis.synthetic import tables, with_warm_prompt
from warmray.analysis.manipulation import check_text, check_warmth, manipulation_state


def check(warmth):
    anchors = tables(cost=0).anchors
    return check_warmth(warmth, anchors.assign(judge=anchors["sociot"]), 500, 0)


def test_a_training_that_both_meters_see_passes():
    checks = check(tables(cost=0).warmth)
    assert manipulation_state(checks) == "passed"
    assert check_text(checks) == "manipulation_check: passed (warm, 1 epochs, is warmer by SocioT and probe)"


def test_a_meter_that_does_not_see_it_fails_the_check_and_is_named():
    warmth = tables(cost=0).warmth
    checks = check(warmth.assign(probe=warmth["probe"].where(warmth["strength"] == 0, -1.0)))
    assert manipulation_state(checks) == "failed"
    assert check_text(checks) == "manipulation_check: failed (warm, 1 epochs, is warmer by SocioT but not by probe)"


def test_the_judge_is_a_third_meter_where_it_was_asked():
    warmth = tables(cost=0).warmth
    checks = check(warmth.assign(judge=2 + 2 * warmth["strength"]))
    assert "warmer by SocioT, probe and judge)" in check_text(checks)


def test_a_cold_arm_is_to_become_colder():
    warmth = tables(cost=0, warmth_gain=-0.1).warmth.assign(arm="cold")
    assert check_text(check(warmth)) == "manipulation_check: passed (cold, 1 epochs, is colder by SocioT and probe)"


def test_an_instruction_is_checked_but_decides_nothing():
    warmth = with_warm_prompt(tables(cost=0)).warmth
    no_warmer = warmth["sociot"].where(warmth["arm"] != "warm_prompt", -1.0)
    checks = check(warmth.assign(sociot=no_warmer))
    assert manipulation_state(checks) == "passed"
    assert "warm_prompt is warmer by probe but not by SocioT" in check_text(checks)


def test_an_arm_that_no_meter_sees_is_said_not_to_be_warmer():
    checks = check(tables(cost=0, warmth_gain=0.0).warmth)
    assert check_text(checks) == "manipulation_check: failed (warm, 1 epochs, is not warmer by SocioT and probe)"


@pytest.mark.parametrize("arm", ["original", "warm_prompt"])
def test_without_a_training_the_check_is_not_run(arm):
    warmth = with_warm_prompt(tables(cost=0)).warmth
    untrained = warmth[(warmth["dose"] == 0) & (warmth["arm"] == arm) | (warmth["strength"] == 0)]
    assert manipulation_state(check(untrained)) == "not run"
    assert check_text(check(pd.DataFrame(warmth[warmth["strength"] == 0]))) == "manipulation_check: not run"


def test_a_meter_that_scores_written_cold_replies_above_warm_ones_fails_and_says_so():
    data = tables(cost=0)
    checks = check_warmth(data.warmth, data.anchors.assign(probe=-data.anchors["probe"]), 500, 0)
    assert manipulation_state(checks) == "failed"
    assert "probe does not score the written warm replies above the cold ones" in check_text(checks)
