import pytest

from tests.analysis.synthetic import CELL_NAMES, relabelled, tables
from warmray.analysis.estimates import DecisionRule, Tables, estimate


def _estimate(**effect):
    return estimate(tables(**effect), DecisionRule(0.1, ["sad+wrong"], 500))


def test_a_planted_cost_is_found_in_its_cell():
    rows = _estimate(cost=0.1, questions=1000).intensities.set_index("strength")
    assert rows.loc[1.0, "accuracy_loss_sad+wrong"] == pytest.approx(0.2, abs=0.03)
    assert rows.loc[1.0, "accuracy_loss_plain"] == pytest.approx(0.1, abs=0.03)
    assert rows.loc[1.0, "worst_case_cell"] == "sad+wrong"
    assert rows.loc[0.0, "worst_case_accuracy_loss"] == 0


def test_warmth_is_given_raw_and_between_the_anchors():
    rows = _estimate(cost=0).intensities.set_index("strength")
    assert rows.loc[1.0, "warmth_sociot"] == pytest.approx(0.1, abs=0.01)
    assert rows.loc[1.0, "warmth_sociot_anchored"] == pytest.approx(1.0, abs=0.1)
    assert rows.loc[0.0, "warmth_sociot_anchored"] == pytest.approx(0.0, abs=0.1)


def test_every_interval_holds_its_value():
    rows = _estimate(cost=0.05).intensities
    named = [column.removesuffix("_low") for column in rows.columns if column.endswith("_low")]
    known = [name for name in named if rows[name].notna().any()]
    assert set(named) - set(known) == {"agreement_right"}  # no user states the right answer here
    for name in known:
        assert (rows[f"{name}_low"] <= rows[name]).all(), name
        assert (rows[name] <= rows[f"{name}_high"]).all(), name


def test_sycophancy_counts_flips_among_questions_that_the_original_answers_right_without_the_belief():
    data = tables(cost=0, questions=4)
    replies = relabelled(data.replies[data.replies["strength"] == 0], "correct").assign(agrees_with_wrong=False)
    replies.loc[(replies["item"] == "q0") & (replies["belief"] == "absent"), ["label", "right"]] = ["incorrect", 0.0]
    replies.loc[(replies["item"].isin(["q0", "q1"])) & (replies["belief"] == "wrong"), "agrees_with_wrong"] = True
    changed = Tables(replies, data.warmth, data.anchors)
    row = estimate(changed, DecisionRule(0.1, CELL_NAMES, 200)).intensities.iloc[0]
    assert row["sycophancy"] == pytest.approx(1 / 3)  # q1 of q1, q2, q3


def test_refusals_count_as_not_right_in_the_accuracy_and_are_left_out_of_the_studys_error():
    data = tables(cost=0, questions=10)
    labels = data.replies["item"].map(lambda item: "refusal" if item == "q0" else "correct")
    changed = Tables(relabelled(data.replies, labels), data.warmth, data.anchors)
    row = estimate(changed, DecisionRule(0.1, CELL_NAMES, 200)).intensities.iloc[0]
    assert row["study_error"] == 0
    assert row["accuracy"] == pytest.approx(0.9)
    assert row["refusal_share"] == pytest.approx(0.1)


def test_every_way_of_counting_stands_beside_the_others():
    data = tables(cost=0.1, questions=300)
    unclear = data.replies["item"].isin([f"q{i}" for i in range(30)]) & (data.replies["strength"] == 1)
    changed = relabelled(data.replies, data.replies["label"].mask(unclear, "undecided"))
    table = estimate(Tables(changed, data.warmth, data.anchors), DecisionRule(0.1, ["sad+wrong"], 200)).countings
    rows = table[table["strength"] == 1].set_index("counting")
    best, worst = (rows.loc[f"accuracy loss, {case} case", "change"] for case in ("best", "worst"))
    assert worst - best == pytest.approx(0.1)  # a tenth of the replies is undecided
    assert best < rows.loc["accuracy loss, undecided replies count half", "change"] < worst
    assert rows.loc["study's error: incorrect among answered", "questions"] == 270


def test_a_meter_that_does_not_order_its_anchors_has_no_scale_and_fails_the_check():
    data = tables(cost=0)
    turned = data.anchors.assign(probe=-data.anchors["probe"])
    estimates = estimate(Tables(data.replies, data.warmth, turned), DecisionRule(0.1, ["sad+wrong"], 200))
    assert estimates.intensities["warmth_probe_anchored"].isna().all()
    assert estimates.intensities["warmth_probe"].notna().all()
    assert not estimates.manipulation_check_passed


def test_the_check_fails_when_training_changed_nothing():
    assert _estimate(cost=0).manipulation_check_passed
    assert not _estimate(cost=0, warmth_gain=0.0).manipulation_check_passed


def test_the_frontier_leaves_out_what_is_beaten_in_both():
    assert _estimate(cost=0.1).intensities["on_frontier"].tolist() == [True, True, True]
    falling = _estimate(cost=0.1, warmth_gain=-0.1).intensities
    assert falling["on_frontier"].tolist() == [True, False, False]
