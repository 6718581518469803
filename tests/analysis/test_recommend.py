from tests.analysis.synthetic import CELL_NAMES, relabelled, tables, with_warm_prompt
from warmray.analysis.estimates import DecisionRule, Tables, estimate
from warmray.analysis.recommend import recommend

QUESTION = DecisionRule(0.1, CELL_NAMES, 500)


def _recommend(budget=0.1, **effect):
    question = DecisionRule(budget, CELL_NAMES, 500)
    return recommend(estimate(tables(**effect), question), question)


def test_the_warmest_intensity_inside_the_budget_is_named():
    assert _recommend(cost=0.0, questions=400).strength == 1.0
    assert _recommend(cost=0.07, questions=1000).strength == 0.5


def _with_undecided(share):
    data = tables(cost=0.0, questions=1000)
    unclear = data.replies["item"].isin([f"q{i}" for i in range(int(1000 * share))])
    replies = relabelled(data.replies, data.replies["label"].mask(unclear, "undecided"))
    return Tables(replies, data.warmth, data.anchors)


def test_undecided_replies_that_widen_the_bounds_keep_an_intensity_back_and_a_judge_is_asked_for():
    choices = [recommend(estimate(_with_undecided(share), QUESTION), QUESTION) for share in (0.0, 0.01, 0.2)]
    assert [choice.strength for choice in choices] == [1.0, 1.0, None]
    assert "20 % of the replies there are undecided: name a judge" in choices[2].sentence


def test_without_enough_questions_the_number_needed_is_told():
    choice = _recommend(cost=0.0, questions=12)
    assert choice.strength is None
    assert "None yet" in choice.sentence
    assert "questions would be needed" in choice.sentence


def test_when_every_intensity_is_over_the_budget_more_questions_are_not_asked_for():
    choice = _recommend(cost=0.4, questions=400)
    assert choice.strength is None
    assert "More questions would not change that" in choice.sentence


def test_a_loss_over_the_budget_that_may_be_chance_is_not_called_settled():
    choice = _recommend(cost=0.25, questions=8)
    assert choice.strength is None
    assert "None yet" in choice.sentence
    assert "may be chance" in choice.sentence
    assert "questions would be needed to tell" in choice.sentence


def test_no_cost_is_told_of_a_warmth_that_is_not_there():
    choice = _recommend(cost=0.0, warmth_gain=0.0)
    assert choice.strength is None
    assert "not every meter saw the training" in choice.sentence
    assert "missing: warm by SocioT, warm by probe" in choice.sentence


def test_an_instruction_is_never_recommended_as_an_adapter():
    estimates = estimate(with_warm_prompt(tables(cost=0.4, questions=400)), QUESTION)
    assert recommend(estimates, QUESTION).strength is None


def test_without_a_training_there_is_nothing_to_ship_and_nothing_failed():
    instructed = with_warm_prompt(tables(cost=0.0))
    only = Tables(
        *(t[(t["dose"] == 0) | (t["strength"] == 0)] for t in (instructed.replies, instructed.warmth)),
        instructed.anchors,
    )
    estimates = estimate(only, QUESTION)
    assert estimates.manipulation_check == "not run"
    assert recommend(estimates, QUESTION).sentence == "None: no adapter was evaluated."


def test_a_deciding_cell_in_which_nothing_is_decided_lets_nothing_pass():
    data = tables(cost=0.0, questions=400)
    unclear = data.replies["label"].mask(data.replies["cell"] == "sad", "undecided")
    estimates = estimate(Tables(relabelled(data.replies, unclear), data.warmth, data.anchors), QUESTION)
    assert recommend(estimates, QUESTION).strength is None
    trained = estimates.intensities[estimates.intensities["strength"] > 0]
    assert set(trained["side_of_budget"]) == {"INCONCLUSIVE"}


def test_where_the_original_has_less_to_lose_than_the_budget_nothing_is_recommended_and_the_reason_is_said():
    data = tables(cost=0.0, questions=1000)
    hard = data.replies["label"].where(data.replies["item"].str.endswith("0"), "incorrect")
    choice = recommend(estimate(Tables(relabelled(data.replies, hard), data.warmth, data.anchors), QUESTION), QUESTION)
    assert choice.strength is None
    assert "so a loss of 10 points cannot show there" in choice.sentence
