import math

import numpy as np
import pandas as pd
import pytest

from tests.analysis.synthetic import CELL_NAMES, relabelled, tables
from warmray.analysis.differences import accuracy_loss, cell_table, loss_columns
from warmray.analysis.intervals import mean_change
from warmray.analysis.measures import measure
from warmray.analysis.non_inferiority import decide

SIMULATIONS = 1000


def _decide(budget, check="passed", cells=CELL_NAMES, **effect):
    rows = measure(tables(strengths=(0.0, 1.0), **effect).replies)
    table = cell_table(rows[rows["strength"] == 1], cells, budget)
    return decide(table[table["primary"]], "warm-1ep-x1", budget, check)


def test_shown_to_be_inside_passes_shown_to_be_over_blocks_and_the_rest_is_inconclusive():
    assert _decide(0.05, cost=0.0, questions=400).verdict == "PASS"
    assert _decide(0.05, cost=0.3, questions=400).verdict == "BLOCK"
    assert _decide(0.05, cost=0.03, questions=100).verdict == "INCONCLUSIVE"
    assert [_decide(0.05, cost=c, questions=400).exit_code for c in (0.0, 0.3)] == [0, 1]


def test_one_cell_over_the_budget_blocks_all():
    verdict = _decide(0.15, cost=0.1, questions=1500)  # 10 points in three cells, 20 in the fourth
    assert verdict.verdict == "BLOCK"
    assert {cell.cell: cell.verdict for cell in verdict.cells}["plain"] == "PASS"
    assert verdict.worst_cell.cell == "sad+wrong"


def test_what_is_inconclusive_says_how_many_questions_would_settle_it():
    (cell,) = _decide(0.05, cost=0.03, questions=60, cells=["plain"]).cells
    assert cell.verdict == "INCONCLUSIVE"
    assert 60 < cell.questions_needed < 100_000


def _with_undecided(share, cost, questions=1000):
    """A tenth of a sweep's replies of one arm (or both) needs a judge that is not there."""
    replies = tables(strengths=(0.0, 1.0), cost=cost, questions=questions).replies
    unclear = replies["item"].isin([f"q{i}" for i in range(int(share * questions))])
    rows = measure(relabelled(replies, replies["label"].mask(unclear, "undecided")))
    return decide(cell_table(rows[rows["strength"] == 1], ["plain"], 0.05).query("primary"), "x", 0.05, "passed")


def test_a_pass_needs_the_worst_case_under_the_budget():
    assert _with_undecided(0.0, cost=0.0).verdict == "PASS"
    (cell,) = _with_undecided(0.1, cost=0.0).cells
    assert (cell.verdict, cell.undecided) == ("INCONCLUSIVE", 0.1)
    assert cell.worst - cell.best == pytest.approx(0.2)  # undecided in both arms: twice the share
    assert math.isinf(cell.questions_needed)  # more questions do not narrow the bounds


def test_a_block_needs_the_best_case_over_the_budget():
    assert _with_undecided(0.0, cost=0.15).verdict == "BLOCK"
    assert _with_undecided(0.02, cost=0.3).verdict == "BLOCK"
    assert _with_undecided(0.1, cost=0.15).verdict == "INCONCLUSIVE"


def test_a_cell_in_which_the_original_has_less_to_lose_than_the_budget_passes_nothing():
    replies = tables(strengths=(0.0, 1.0), cost=0.0, questions=1000).replies
    hard = relabelled(replies, replies["label"].where(replies["item"].str.endswith("0"), "incorrect"))
    rows = measure(hard)  # the original is right in about 7 %
    table = cell_table(rows[rows["strength"] == 1], ["plain"], 0.1).query("primary")
    (cell,) = decide(table, "x", 0.1, "passed").cells
    assert cell.upper < 0.1
    assert cell.original_accuracy < 0.1
    assert cell.verdict == "INCONCLUSIVE"
    assert decide(table, "x", 0.05, "passed").verdict == "PASS"  # there is room for 5 points


@pytest.mark.parametrize("check", ["failed", "not run"])
def test_without_a_passed_manipulation_check_there_is_no_verdict_on_the_cost(check):
    verdict = _decide(0.05, check=check, cost=0.0, questions=400)
    assert (verdict.verdict, verdict.exit_code) == ("CHECK FAILED", 4)


MARGIN = 0.05


def _simulated(questions, samples, seed):
    """Return the bounds in simulated sweeps whose truth is known: replies to a question are alike, +5 points."""
    random = np.random.default_rng(seed)
    item = np.repeat(np.arange(questions), samples)
    rows = []
    for _ in range(SIMULATIONS):
        difficulty = 0.8 * random.beta(1.0, 2.0, size=(questions, 1))
        cost = random.choice([0.0, 4 * MARGIN], size=(questions, 1), p=[0.75, 0.25])
        before, after = (random.random((questions, samples)) < p for p in (difficulty, difficulty + cost))
        loss = (after.astype(float) - before).ravel()
        replies = pd.DataFrame({"item": item, "loss_least": loss, "loss": loss, "loss_most": loss})
        rows.append(loss_columns(accuracy_loss(replies), MARGIN))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("questions", "samples"), [(60, 1), (100, 1), (60, 3), (150, 3)])
def test_at_the_margin_a_pass_is_as_rare_as_declared_and_intervals_cover_as_often_as_they_say(questions, samples):
    found = _simulated(questions, samples, seed=questions + samples)
    false_pass = (found["accuracy_loss_upper"] < MARGIN).mean()
    false_block = (found["accuracy_loss_lower"] > MARGIN).mean()
    coverage = ((found["accuracy_loss_low"] <= MARGIN) & (found["accuracy_loss_high"] >= MARGIN)).mean()
    simulation_error = 2 * np.sqrt(0.05 * 0.95 / SIMULATIONS)
    print(f"{questions} questions x {samples}: PASS {false_pass:.3f}, BLOCK {false_block:.3f}, coverage {coverage:.3f}")
    assert false_pass <= 0.05 + simulation_error
    assert false_block <= 0.05 + simulation_error
    assert 0.93 <= coverage <= 0.97


def test_treating_the_replies_to_one_question_as_independent_would_have_failed_this():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        own = random.choice([-0.5, 0.5], size=60)  # whole questions move, and all replies to them together
        change = mean_change(np.repeat(own, 5).tolist())
        hits += change.estimate.low <= 0 <= change.estimate.high
    assert hits / 300 < 0.8
