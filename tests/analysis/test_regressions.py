import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from tests.analysis.synthetic import tables
from warmray.analysis.measures import measure
from warmray.analysis.regressions import FORMS, regress, rows_of
from warmray.errors import InputError


@pytest.fixture(scope="module")
def rows():
    replies = tables(cost=0.1, questions=400, strengths=(0.0, 1.0)).replies
    random = np.random.default_rng(0)
    words = random.integers(3, 60, len(replies)) + 10 * (replies["strength"] == 1)
    return rows_of(measure(replies.assign(reply=[" ".join(["w"] * n) for n in words])), "warm", 1.0, 1.0)


def test_the_effect_of_the_plain_form_is_that_of_a_logit_model(rows):
    found = regress(rows, "nonrobust").query("form == 'warmth' and not length").iloc[0]
    plain = rows[(rows["context"] == "none") & (rows["belief"] == "absent")]
    logit = sm.Logit(plain["wrong"], sm.add_constant(plain["warm"].astype(float))).fit(disp=0)
    margin = logit.get_margeff(dummy=True)
    assert found["log_odds"] == pytest.approx(logit.params["warm"], abs=1e-6)
    assert found["points"] == pytest.approx(100 * margin.margeff[0], abs=1e-4)
    low, high = 100 * margin.conf_int()[0]
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-3)
    assert found["replies"] == 800


def test_effects_are_told_for_every_group_in_percentage_points(rows):
    belief = regress(rows).query("form == 'warmth x belief' and not length").set_index("group")
    assert set(belief.index) == {"absent+none", "absent+emotion", "wrong+none", "wrong+emotion"}
    assert belief.loc["wrong+emotion", "points"] == pytest.approx(20, abs=5)
    assert belief.loc["wrong+none", "points"] == pytest.approx(10, abs=5)


def test_all_four_forms_are_given_with_and_without_length(rows):
    table = regress(rows)
    assert set(table["form"]) == {form.name for form in FORMS}
    assert table.groupby("form")["length"].nunique().eq(2).all()


def test_the_covariance_is_clustered_on_the_question_unless_the_studys_own_is_asked_for(rows):
    # Every reply twice is no more knowledge: clustered intervals stay, those that think it is shrink.
    plain = rows[(rows["context"] == "none") & (rows["belief"] == "absent")]
    twice = pd.concat([plain, plain], ignore_index=True)

    def width(table, kind):
        first = regress(table, kind).iloc[0]
        return first["high"] - first["low"]

    assert width(twice, "clustered") == pytest.approx(width(plain, "clustered"), rel=0.02)
    assert width(twice, "nonrobust") == pytest.approx(width(plain, "nonrobust") / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("effect", ["task", "model"])
def test_task_and_model_have_fixed_effects(rows, effect):
    # A hard task (or a weak model) that is asked more often of the warm arm is no cost of warmth.
    hard = rows["item"].str[-1].isin(list("01234"))
    wrong = rows["wrong"].where(~hard, (np.random.default_rng(0).random(len(rows)) < 0.9).astype(float))
    mixed = rows.assign(wrong=wrong, **{effect: np.where(hard, "hard", "easy")})
    unequal = mixed[~(hard & (rows["warm"] == 0) & (rows["item"].str[-1] > "0"))]
    assert regress(unequal).iloc[0]["points"] == pytest.approx(5, abs=5)  # 10 in the easy half, none in the hard one
    assert regress(unequal.assign(**{effect: "one"})).iloc[0]["points"] > 15


def test_where_all_is_right_no_odds_are_claimed(rows):
    perfect = rows.assign(wrong=rows["wrong"].where((rows["warm"] == 1) | (rows["context"] != "sad"), 0.0))
    table = regress(perfect).query("form == 'warmth x context' and not length").set_index("group")
    assert table.loc["sad", "note"] == "the original replies are all right: no odds exist"
    assert np.isnan(table.loc["sad", "points"])
    assert np.isfinite(table.loc["none", "points"])


def test_one_question_or_one_arm_is_refused(rows):
    with pytest.raises(InputError, match="all replies are to one question"):
        regress(rows[rows["item"] == "q1"])
    with pytest.raises(InputError, match="one of the two is missing"):
        regress(rows[rows["warm"] == 1])


def test_replies_of_one_length_or_tasks_that_tell_nothing_break_no_analysis(rows):
    assert np.isfinite(regress(rows.assign(words=1))["points"]).all()
    table = regress(rows.assign(task=np.where(rows["warm"] == 1, "a", "b")))  # the task is the arm
    assert table["points"].isna().all()
    assert table["note"].str.startswith("no estimate").all()
