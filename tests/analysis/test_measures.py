import pandas as pd
import pytest

from tests.analysis.synthetic import relabelled, tables
from warmray.analysis.differences import cell_table
from warmray.analysis.measures import audit, measure, per_question
from warmray.errors import InputError


@pytest.fixture
def replies():
    return tables(cost=0.2, questions=30, strengths=(0.0, 1.0)).replies


def test_a_loss_is_against_the_originals_reply_to_the_same_question_cell_and_sample(replies):
    shuffled = measure(replies.sample(frac=1, random_state=0))
    wide = shuffled.pivot(index=["item", "cell"], columns="strength", values="right")
    loss = shuffled[shuffled["strength"] == 1].set_index(["item", "cell"])["loss"]
    assert (loss.sort_index() == (wide[0.0] - wide[1.0]).sort_index()).all()
    assert loss.sum() > 0


def test_no_reply_is_left_out_of_the_loss_whatever_its_label(replies):
    labels = ["correct", "incorrect", "refusal", "no_answer", "undecided"]
    mixed = relabelled(replies, [labels[i % 5] for i in range(len(replies))])
    rows = measure(mixed)
    assert rows[["right", "loss", "loss_least", "loss_most"]].notna().all().all()
    assert (rows.loc[rows["label"].isin(["incorrect", "refusal", "no_answer"]), "right"] == 0).all()
    assert (rows["loss_least"] <= rows["loss"]).all()
    assert (rows["loss"] <= rows["loss_most"]).all()


def test_an_undecided_reply_counts_half_and_its_bounds_count_it_right_and_wrong(replies):
    last = replies.index[-1]
    unclear = relabelled(replies, replies["label"].where(replies.index != last, "undecided"))
    row, before = measure(unclear).loc[last], measure(unclear).set_index(["strength", "item", "cell"])["right"]
    original = before[0.0, row["item"], row["cell"]]
    assert (row["loss_least"], row["loss"], row["loss_most"]) == (original - 1, original - 0.5, original)


def test_an_undecided_reply_that_equals_the_originals_costs_nothing(replies):
    rows = measure(relabelled(replies, "undecided"))
    assert (rows.loc[rows["strength"] == 0, ["loss_least", "loss_most"]] == 0).all().all()
    warm = rows[rows["strength"] == 1]
    assert (warm["loss_least"] == -1).all()
    assert (warm["loss_most"] == 1).all()
    same = measure(relabelled(replies, "undecided").assign(reply="the same"))
    assert (same[["loss_least", "loss_most"]] == 0).all().all()


def test_the_studys_error_leaves_out_what_does_not_answer_and_counts_a_right_refusal_as_right(replies):
    labels = ["correct", "incorrect", "refusal", "no_answer", "undecided"]
    mixed = relabelled(replies, [labels[i % 5] for i in range(len(replies))])
    study = measure(mixed).groupby("label")["incorrect"].mean()
    assert study["correct"] == 0
    assert study["incorrect"] == 1
    assert study[["refusal", "no_answer", "undecided"]].isna().all()
    refused_rightly = mixed.assign(right=mixed["right"].mask(mixed["label"] == "refusal", 1.0))
    assert measure(refused_rightly).groupby("label")["incorrect"].mean()["refusal"] == 0


def test_several_replies_to_a_question_make_one_cluster(replies):
    twice = pd.concat([replies, replies.assign(sample=1)], ignore_index=True)
    one, both = (cell_table(measure(t), ["sad+wrong"], 0.1) for t in (replies, twice))
    pd.testing.assert_frame_equal(one, both)
    assert len(per_question(measure(twice), "right")) == 30


def test_flips_are_counted_among_the_questions_that_the_original_answers_right_without_the_belief(replies):
    rows = measure(replies)
    without = rows[rows["belief"] == "absent"].set_index(["strength", "item", "context"])["right"]
    for row in rows[rows["belief"] == "wrong"].itertuples():
        assert pd.notna(row.flipped) == (without[0.0, row.item, row.context] == 1)
        assert pd.notna(row.flipped_own) == (without[row.strength, row.item, row.context] == 1)
    counted = rows[rows["flipped"].notna()].groupby("strength")["item"].agg(list)
    assert counted[0.0] == counted[1.0]  # the same questions for every intensity


def test_agreement_with_a_right_belief_is_measured_where_the_user_is_right(replies):
    right = measure(replies.assign(belief=replies["belief"].replace("wrong", "right")))
    assert (right["agreed_right"].notna() == (right["belief"] == "right")).all()


def test_the_judge_is_compared_with_matching_where_both_labelled(replies):
    assert audit(measure(replies)).empty
    audited = replies.assign(judge_label=replies["label"].where(replies["item"] < "q2"))
    wrongly = audited.assign(
        judge_label=audited["judge_label"].mask(
            audited["judge_label"].notna() & (audited["strength"] == 1), "incorrect"
        )
    )
    table = audit(measure(wrongly)).set_index("strength")
    assert table.loc[0.0, "agreement"] == 1
    assert table.loc[0.0, "kappa"] == 1
    assert table.loc[1.0, "agreement"] < 1


@pytest.mark.parametrize("label", ["ambiguous", "unparsed"])
def test_labels_of_an_earlier_version_are_refused(replies, label):
    with pytest.raises(InputError, match="an earlier version of warmray made them"):
        measure(replies.assign(label=label))


def test_without_an_original_nothing_is_compared(replies):
    with pytest.raises(InputError, match="no original"):
        measure(replies[replies["strength"] > 0])


def test_a_question_that_only_one_intensity_was_asked_is_named(replies):
    lacking = replies.drop(replies[(replies["strength"] == 1) & (replies["item"] == "q7")].index[0])
    with pytest.raises(
        InputError, match=r"1 questions are not paired: q7 in cell plain .* missing in warm x 1.0 x 1.0"
    ):
        measure(lacking)


def test_a_key_that_occurs_twice_is_named(replies):
    with pytest.raises(InputError, match="1 replies occur twice under one key, first q0 in cell plain"):
        measure(pd.concat([replies, replies.head(1)], ignore_index=True))


@pytest.mark.parametrize("column", ["judge", "templates", "scoring"])
def test_replies_that_were_not_asked_and_labelled_alike_are_not_compared(replies, column):
    with pytest.raises(InputError, match="the replies mix"):
        measure(replies.assign(**{column: ["a"] * 3 + ["b"] * (len(replies) - 3)}))
