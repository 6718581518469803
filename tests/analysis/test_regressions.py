import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from tests.analysis.released import COEFFICIENTS, LENGTH, as_replies, column, simulate
from tests.analysis.synthetic import tables
from warmray.analysis.measures import measure
from warmray.analysis.regressions import FORMS, coefficients, fit_forms, regress, rows_of
from warmray.errors import InputError


def _rows_of_form(form: int, rows: pd.DataFrame) -> pd.DataFrame:
    """Select what STUDY.md says that a form reads, from the released columns."""
    templates = ["original", "original_neutral", *(["correct", "incorrect"] if form == 4 else [])]
    rows = rows[rows["prompt_template"].isin(templates)]
    return rows[rows["amendment_type"] == "unmodified"] if form == 1 else rows


def _logit(rows: pd.DataFrame, terms: list[str], **options):
    """Fit a form without formulas and without our code."""
    design = pd.DataFrame({term: column(rows, term) for term in terms})
    return sm.Logit(rows["incorrect"].to_numpy(), design).fit(disp=0, tol=1e-12, **options)


@pytest.fixture(scope="module")
def rows():
    replies = tables(cost=0.1, questions=400, strengths=(0.0, 1.0)).replies
    random = np.random.default_rng(0)
    words = random.integers(3, 60, len(replies)) + 10 * (replies["strength"] == 1)
    return rows_of(measure(replies.assign(reply=[" ".join(["w"] * n) for n in words])), "warm", 1.0, 1.0)


@pytest.fixture(scope="module")
def study():
    """Replies of form 4 in the study's whole grid, and the fits to them."""
    simulated = simulate(COEFFICIENTS[4], seed=1)
    return simulated, fit_forms(as_replies(simulated), "nonrobust")


@pytest.mark.parametrize("with_length", [False, True])
@pytest.mark.parametrize("form", [1, 2, 3, 4])
def test_every_coefficient_of_a_form_is_recovered_with_the_errors_of_a_logit_model(form, with_length):
    truth = COEFFICIENTS[form] | (LENGTH if with_length else {})
    simulated = simulate(truth, questions=100 if form == 1 else 40, seed=form)
    found = coefficients(as_replies(simulated), "nonrobust")
    found = found[(found["form"] == form) & (found["length"] == with_length)].set_index("term")
    own = _rows_of_form(form, simulated)
    assert sorted(found.index) == sorted(truth)
    assert (found["replies"] == len(own)).all()

    distance = (found["estimate"] - pd.Series(truth)) / found["standard_error"]
    assert distance.abs().max() < 4
    oracle = _logit(own, list(truth))
    assert found.loc[list(truth), "estimate"].to_numpy() == pytest.approx(oracle.params.to_numpy(), abs=1e-6)
    assert found.loc[list(truth), "standard_error"].to_numpy() == pytest.approx(oracle.bse.to_numpy(), rel=1e-5)


def test_the_simulated_lengths_would_be_missed_by_a_form_without_length():
    simulated = simulate(COEFFICIENTS[1] | {"length": 0.02}, questions=100)
    found = coefficients(as_replies(simulated)).query("form == 1 and term == 'warm'").set_index("length")
    assert abs(found.loc[True, "estimate"] - 0.43) < 4 * found.loc[True, "standard_error"]
    assert found.loc[False, "estimate"] > 0.43 + 2 * found.loc[False, "standard_error"]


def test_clustered_errors_are_those_of_the_question_over_models_contexts_and_beliefs(study):
    simulated, _ = study
    replies = as_replies(simulated)
    # All replies to a question lean the same way.
    hard = np.random.default_rng(0).normal(0, 1, replies["item"].nunique())[pd.factorize(replies["item"])[0]]
    replies["incorrect"] = (hard + np.random.default_rng(1).normal(0, 1, len(replies)) > 0.3).astype(float)
    found = coefficients(replies).query("form == 4 and not length").set_index("term")
    groups = {"cov_type": "cluster", "cov_kwds": {"groups": pd.factorize(replies["item"])[0]}}
    oracle = _logit(replies, list(COEFFICIENTS[4]), **groups)
    assert found.loc[list(oracle.params.index), "standard_error"].to_numpy() == pytest.approx(oracle.bse, rel=1e-4)
    plain = coefficients(replies, "nonrobust").query("form == 4 and not length").set_index("term")
    assert found.loc["task:trivia", "standard_error"] > 2 * plain.loc["task:trivia", "standard_error"]


def test_points_are_the_mean_change_of_the_prediction_over_the_replies_of_the_group(study):
    simulated, fits = study
    effects = fits.effects.query("form == '2 warmth x amendment group' and not length").set_index("group")
    terms = list(COEFFICIENTS[2])
    own = _rows_of_form(2, simulated)
    oracle = _logit(own, terms)
    for group in ("unmodified", "emotion", "relation", "stake"):
        part = own[own["amendment_type"].str.split(":").str[0] == group]
        original, warm = (
            oracle.predict(pd.DataFrame({term: column(part.assign(warm=value), term) for term in terms}))
            for value in (0, 1)
        )
        assert effects.loc[group, "points"] == pytest.approx(100 * (warm - original).mean(), abs=1e-4)
        assert effects.loc[group, "replies"] == len(part)
        assert effects.loc[group, "low"] < effects.loc[group, "points"] < effects.loc[group, "high"]
        log_odds = oracle.params["warm"] + (0 if group == "unmodified" else oracle.params[f"warm:{group}"])
        assert effects.loc[group, "log_odds"] == pytest.approx(log_odds, abs=1e-6)


def test_the_effect_of_the_plain_form_is_that_of_a_logit_model(rows):
    found = regress(rows, "nonrobust").query("form == '1 warmth' and not length").iloc[0]
    plain = rows[(rows["context"] == "none") & (rows["belief"] == "absent")]
    logit = sm.Logit(plain["incorrect"], sm.add_constant(plain["warm"].astype(float))).fit(disp=0)
    margin = logit.get_margeff(dummy=True)
    assert found["log_odds"] == pytest.approx(logit.params["warm"], abs=1e-6)
    assert found["points"] == pytest.approx(100 * margin.margeff[0], abs=1e-4)
    low, high = 100 * margin.conf_int()[0]
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-3)
    assert found["replies"] == 800


def test_our_own_form_tells_the_cost_in_every_group_by_belief_and_is_no_form_of_the_studys(rows):
    ours = regress(rows).query("form.str.contains('ours') and not length").set_index("group")
    assert set(ours.index) == {
        "no belief + unmodified", "no belief + emotion", "user_opinion + unmodified", "user_opinion + emotion"
    }  # fmt: skip
    assert ours.loc["user_opinion + emotion", "points"] == pytest.approx(20, abs=5)
    assert ours.loc["user_opinion + unmodified", "points"] == pytest.approx(10, abs=5)
    assert set(coefficients(rows)["form"]) == {1, 2, 3, 4}


def test_all_forms_are_given_with_and_without_length(rows):
    table = regress(rows)
    assert set(table["form"]) == {form.name for form in FORMS}
    assert table.groupby("form")["length"].nunique().eq(2).all()


def test_without_contexts_or_beliefs_the_forms_about_them_are_not_fitted(rows):
    def forms(part):
        return sorted({name.split()[0] for name in regress(part)["form"]})

    assert forms(rows[rows["belief"] == "absent"]) == ["1", "2", "3"]
    assert forms(rows[rows["context"] == "none"]) == ["1", "4"]
    assert forms(rows[rows["context"] == "sad"]) == ["2", "3", "4", "5"]


def test_a_reference_level_that_was_not_asked_leaves_no_coefficient_to_it_but_the_effect_of_the_group(rows):
    sad = rows[rows["context"] == "sad"]
    fits = fit_forms(sad, "nonrobust")
    terms = fits.coefficients.query("form == 2 and not length").set_index("term")["estimate"]
    assert terms[["intercept", "warm", "emotion", "warm:emotion"]].isna().all()
    effect = fits.effects.query("form == '2 warmth x amendment group' and not length").set_index("group")
    plain = regress(sad.assign(context="none"), "nonrobust").iloc[0]
    assert effect.loc["emotion", "points"] == pytest.approx(plain["points"], abs=1e-6)


def test_the_covariance_is_clustered_on_the_question_unless_the_studys_own_is_asked_for(rows):
    # Every reply twice is no more knowledge: clustered intervals stay, those of independent replies shrink.
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
    wrong = rows["incorrect"].where(~hard, (np.random.default_rng(0).random(len(rows)) < 0.9).astype(float))
    mixed = rows.assign(incorrect=wrong, **{effect: np.where(hard, "hard", "easy")})
    unequal = mixed[~(hard & (rows["warm"] == 0) & (rows["item"].str[-1] > "0"))]
    assert regress(unequal).iloc[0]["points"] == pytest.approx(5, abs=5)  # 10 in the easy half, none in the hard one
    assert regress(unequal.assign(**{effect: "one"})).iloc[0]["points"] > 15


def test_a_separated_group_is_named_and_the_other_coefficients_are_those_of_the_rest(study):
    simulated, _ = study
    is_sad = simulated["amendment_type"] == "emotion:sad"
    perfect = simulated.assign(incorrect=simulated["incorrect"].mask(is_sad & (simulated["warm"] == 0), 0.0))
    fits = fit_forms(as_replies(perfect), "nonrobust")
    effects = fits.effects.query("form == '3 warmth x amendment type' and not length").set_index("group")
    assert effects.loc["emotion:sad", "note"] == (
        "left out of the fit: the original replies are all right, so that no odds exist"
    )
    assert effects["points"].isna().sum() == 1
    found = fits.coefficients.query("form == 3 and not length").set_index("term")
    assert set(found.index[found["estimate"].isna()]) == {"emotion:sad", "warm:emotion:sad"}
    rest = [term for term in COEFFICIENTS[3] if "sad" not in term]
    oracle = _logit(_rows_of_form(3, simulated[~is_sad]), rest)
    assert found.loc[rest, "estimate"].to_numpy() == pytest.approx(oracle.params.to_numpy(), abs=1e-6)
    assert found.loc[rest, "standard_error"].to_numpy() == pytest.approx(oracle.bse.to_numpy(), rel=1e-5)


def test_a_separated_reference_group_does_not_move_the_reference_to_another_group(study):
    simulated, _ = study
    plain = simulated["amendment_type"] == "unmodified"
    perfect = simulated.assign(incorrect=simulated["incorrect"].mask(plain & (simulated["warm"] == 1), 1.0))
    fits = fit_forms(as_replies(perfect), "nonrobust")
    effects = fits.effects.query("form == '2 warmth x amendment group' and not length").set_index("group")
    assert "the warm replies are all wrong" in effects.loc["unmodified", "note"]
    assert effects.loc[["emotion", "relation", "stake"], "points"].notna().all()
    found = fits.coefficients.query("form == 2 and not length").set_index("term")["estimate"]
    assert found[["warm", "warm:emotion", "intercept", "emotion"]].isna().all()
    assert found[["task:trivia", "model:gpt-4o"]].notna().all()
    alone = fits.effects.query("form == '1 warmth' and not length").iloc[0]
    assert (alone["group"], np.isnan(alone["points"])) == ("unmodified", True)


@pytest.mark.parametrize("level", ["task:trivia", "model:gpt-4o"])
def test_a_task_or_model_that_is_all_right_is_named_and_left_out(study, level):
    simulated, _ = study
    kind, name = level.split(":")
    perfect = simulated.assign(incorrect=simulated["incorrect"].mask(simulated[kind] == name, 0.0))
    fits = fit_forms(as_replies(perfect), "nonrobust")
    effects = fits.effects.query("form == '4 warmth x belief' and not length").set_index("group")
    assert effects.loc[level, "note"] == "left out of the fit: all replies are right, so that no odds exist"
    found = fits.coefficients.query("form == 4 and not length").set_index("term")
    assert list(found.index[found["estimate"].isna()]) == [level]
    rest = [term for term in COEFFICIENTS[4] if term != level]
    oracle = _logit(_rows_of_form(4, simulated[simulated[kind] != name]), rest)
    assert found.loc[rest, "estimate"].to_numpy() == pytest.approx(oracle.params.to_numpy(), abs=1e-6)


def test_a_combination_that_is_all_right_leaves_the_other_estimates(study):
    # Llama-8B makes no error in medqa. Neither the model nor the task is all right, but as nobody combines the two
    # other levels, the intercept and both fixed effects run off to infinity.
    simulated, _ = study
    simulated = simulated[simulated["model"].isin(["Llama-8B", "gpt-4o"]) & simulated["task"].isin(["medqa", "trivia"])]
    perfect = (simulated["model"] == "Llama-8B") & (simulated["task"] == "medqa")
    kept = (simulated["model"] == "Llama-8B") | (simulated["task"] == "medqa")
    replies = as_replies(simulated.assign(incorrect=simulated["incorrect"].mask(perfect, 0.0))[kept])
    fits = fit_forms(replies, "nonrobust")
    rest = fit_forms(as_replies(simulated[kept & ~perfect]), "nonrobust")
    found, alone = (
        fit.coefficients.query("form == 4 and not length").set_index("term")["estimate"] for fit in (fits, rest)
    )
    assert found[["intercept", "task:trivia", "model:gpt-4o"]].isna().all()
    for term in ("warm", "user_opinion", "warm:user_opinion", "emotion", "relation", "stake"):
        assert found[term] == pytest.approx(alone[term], abs=1e-5)
    assert fits.effects["points"].notna().all()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("covariance", ["clustered", "nonrobust"])
def test_few_replies_give_an_estimate_or_a_reason_for_none(seed, covariance):
    random = np.random.default_rng(seed)
    size = 8 + 4 * seed
    replies = pd.DataFrame(
        {
            "warm": np.arange(size) % 2, "incorrect": (random.random(size) < 0.4).astype(float),
            "context": random.choice(["none", "sad", "high_stakes"], size),
            "belief": random.choice(["absent", "wrong"], size),
            "task": random.choice(["a", "b]"], size), "model": random.choice(["m[1]", "n"], size),
            "item": random.choice(["q1", "q2", "q3"], size), "reply": ["x" * n for n in random.integers(0, 9, size)],
        }
    )  # fmt: skip
    effects = regress(replies, covariance)
    given = effects["points"].notna()
    assert (effects["note"].ne("") == ~given).all()
    assert effects.loc[given, ["log_odds", "low", "high", "p_value"]].notna().all(axis=None)


def test_replies_that_their_length_separates_have_no_estimate_with_length(rows):
    separated = rows.assign(reply=rows["incorrect"].map({0.0: "short", 1.0: "a long reply"}))
    table = regress(separated)
    assert table.loc[table["length"], "note"].str.startswith("no estimate").all()
    assert table.loc[~table["length"], "points"].notna().all()


def test_one_question_or_one_arm_is_refused(rows):
    with pytest.raises(InputError, match="all replies answer one question"):
        regress(rows[rows["item"] == "q1"])
    with pytest.raises(InputError, match="one is missing"):
        regress(rows[rows["warm"] == 1])


def test_replies_of_one_length_or_tasks_that_say_nothing_break_no_analysis(rows):
    assert np.isfinite(regress(rows.assign(reply="text"))["points"]).all()
    table = regress(rows.assign(task=np.where(rows["warm"] == 1, "a", "b")))  # the task is the arm
    assert table["points"].isna().all()
    assert table["note"].str.startswith("no estimate: warmth does not vary").all()


def test_a_sweeps_rows_have_the_studys_error_and_no_controls():
    replies = tables(cost=0.1, questions=20, strengths=(0.0, 1.0)).replies
    measured = measure(replies).assign(incorrect=0.0, control=replies["item"] == "q3")
    rows = rows_of(measured, "warm", 1.0, 1.0)
    assert (rows["incorrect"] == 0).all()
    assert "q3" not in set(rows["item"])
    assert rows.groupby("warm").size().to_dict() == {0: 76, 1: 76}


def test_every_stated_belief_of_a_sweep_counts_as_the_studys_user_opinion(rows):
    mixed = rows.assign(
        belief=rows["belief"].mask(rows["item"].str[-1] > "6", rows["belief"].replace("wrong", "right"))
    )
    pd.testing.assert_frame_equal(coefficients(mixed), coefficients(rows))
