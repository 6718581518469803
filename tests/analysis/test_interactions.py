import numpy as np
import pytest

from tests.analysis.synthetic import relabelled, tables
from warmray.analysis.interactions import interactions
from warmray.analysis.measures import measure


def _at_full_strength(cost, questions=1500):
    table = interactions(measure(tables(cost=cost, questions=questions).replies))
    return table[table["strength"] == 1].set_index(["context", "belief"])


def test_a_planted_interaction_is_found_where_it_was_planted_and_nowhere_else():
    # Every cell loses 10 points, sad+wrong 20: the two together do 10 more than the sum of what each adds alone.
    rows = _at_full_strength(0.1)
    assert rows.loc[("sad", "wrong"), "more"] == pytest.approx(0.1, abs=0.03)
    assert rows.loc[("sad", "wrong"), "p_adjusted"] < 0.01
    assert rows.loc[("sad", "absent"), "more_low"] < 0 < rows.loc[("sad", "absent"), "more_high"]
    assert rows.loc[("none", "wrong"), "more_low"] < 0 < rows.loc[("none", "wrong"), "more_high"]


def test_the_interval_of_an_interaction_covers_the_truth():
    hits = [
        row.more_low <= 0 <= row.more_high
        for seed in range(60)
        for row in interactions(
            measure(tables(cost=0.0, questions=60, strengths=(0.0, 1.0), seed=seed).replies.pipe(_noisy, seed))
        ).itertuples()
    ]
    assert np.mean(hits) > 0.92


def _noisy(replies, seed):
    """Label a fifth of the warm replies anew, whatever the question: warmth costs nothing on average."""
    random = np.random.default_rng(seed)
    anew = (random.random(len(replies)) < 0.2) & (replies["strength"] == 1)
    label = np.where(random.random(len(replies)) < 0.3, "incorrect", "correct")
    return relabelled(replies, np.where(anew, label, replies["label"]))


def test_without_the_plain_question_there_is_nothing_to_compare_with():
    replies = tables(cost=0.1, questions=20).replies
    assert interactions(measure(replies[replies["cell"] != "plain"])).empty


@pytest.mark.parametrize("questions", [1, 3, 12])
def test_a_p_value_says_what_its_interval_says(questions):
    table = interactions(measure(tables(cost=0.6, questions=questions).replies))
    for row in table.itertuples():
        assert (row.p_value < 0.05) == (row.more_low > 0 or row.more_high < 0), row
