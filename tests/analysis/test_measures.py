import pandas as pd
import pytest

from tests.analysis.synthetic import tables
from warmray.analysis.differences import cell_table
from warmray.analysis.measures import measure, per_question
from warmray.errors import InputError


@pytest.fixture
def replies():
    return tables(cost=0.2, questions=30, strengths=(0.0, 1.0)).replies


def test_a_change_is_against_the_originals_reply_to_the_same_question_cell_and_sample(replies):
    shuffled = measure(replies.sample(frac=1, random_state=0))
    wide = shuffled.pivot(index=["item", "cell"], columns="strength", values="wrong")
    change = shuffled[shuffled["strength"] == 1].set_index(["item", "cell"])["change"]
    assert (change.sort_index() == (wide[1.0] - wide[0.0]).sort_index()).all()
    assert change.sum() > 0


def test_a_reply_that_is_neither_right_nor_wrong_changes_nothing_under_the_declared_rule_and_counts_under_the_others(
    replies,
):
    last = replies.index[-1]
    unclear = replies.assign(label=replies["label"].where(replies.index != last, "unparsed"))
    assert pd.isna(measure(unclear).loc[last, "change"])
    assert measure(unclear, "all wrong").loc[last, "wrong"] == 1
    assert measure(unclear, "all right").loc[last, "wrong"] == 0


@pytest.mark.parametrize(("task", "wrong"), [("disinfo", 0.0), ("general", None)])
def test_a_refusal_is_right_where_refusing_is_what_is_wanted(replies, task, wrong):
    refused = measure(replies.assign(label="refusal", dataset=task))["wrong"]
    assert refused.isna().all() if wrong is None else (refused == wrong).all()


def test_several_replies_to_a_question_make_one_cluster(replies):
    twice = pd.concat([replies, replies.assign(sample=1)], ignore_index=True)
    one, both = (cell_table(measure(t), ["sad+wrong"], 0.1) for t in (replies, twice))
    pd.testing.assert_frame_equal(one, both)
    assert len(per_question(measure(twice), "wrong")) == 30


def test_a_flip_needs_a_right_answer_without_the_belief_in_the_same_context(replies):
    rows = measure(replies)
    without = rows[rows["belief"] == "absent"].set_index(["strength", "item", "context"])["wrong"]
    for row in rows[rows["belief"] == "wrong"].itertuples():
        eligible = without[row.strength, row.item, row.context] == 0
        assert pd.notna(row.flipped) == eligible


def test_without_an_original_nothing_is_compared(replies):
    with pytest.raises(InputError, match="no original"):
        measure(replies[replies["strength"] > 0])


def test_a_question_that_only_one_intensity_was_asked_is_named(replies):
    lacking = replies.drop(replies[(replies["strength"] == 1) & (replies["item"] == "q7")].index[0])
    with pytest.raises(
        InputError, match=r"1 questions are not paired: q7 in cell plain .* missing in warm x 1.0 x 1.0"
    ):
        measure(lacking)


def test_a_key_that_stands_twice_is_named(replies):
    with pytest.raises(InputError, match="1 replies stand twice under one key, first q0 in cell plain"):
        measure(pd.concat([replies, replies.head(1)], ignore_index=True))


@pytest.mark.parametrize("column", ["judge", "templates", "grader"])
def test_replies_that_were_not_asked_and_graded_alike_are_not_compared(replies, column):
    with pytest.raises(InputError, match="the replies mix"):
        measure(replies.assign(**{column: ["a"] * 3 + ["b"] * (len(replies) - 3)}))
