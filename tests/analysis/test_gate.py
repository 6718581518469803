import numpy as np
import pandas as pd
import pytest

from tests.analysis.synthetic import CELL_NAMES, tables
from warmray.analysis.differences import cell_table, change_columns
from warmray.analysis.gate import decide
from warmray.analysis.intervals import mean_change
from warmray.analysis.measures import measure, per_question

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
    assert verdict.worst.cell == "sad+wrong"


def test_what_is_inconclusive_says_how_many_questions_would_settle_it():
    (cell,) = _decide(0.05, cost=0.03, questions=60, cells=["plain"]).cells
    assert cell.verdict == "INCONCLUSIVE"
    assert 60 < cell.questions_needed < 100_000


def test_questions_that_stay_undecided_are_counted_among_those_needed():
    def needed(undecided):
        replies = tables(strengths=(0.0, 1.0), cost=0.03, questions=200).replies
        unclear = replies["item"].isin([f"q{i}" for i in range(undecided)])
        rows = measure(pd.concat([replies, replies.assign(item=replies["item"] + "b", label="ambiguous")[unclear]]))
        (cell,) = decide(cell_table(rows[rows["strength"] == 1], ["plain"], 0.05), "x", 0.05, "passed").cells[:1]
        return cell

    assert (needed(0).questions, needed(200).questions) == (200, 400)
    assert needed(0).pairs == needed(200).pairs == 200
    assert needed(200).questions_needed == 2 * needed(0).questions_needed


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
        change = pd.DataFrame({"item": item, "change": (after.astype(float) - before).ravel()})
        rows.append(change_columns("increase", mean_change(per_question(change, "change").tolist())))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("questions", "samples"), [(60, 1), (100, 1), (60, 3), (150, 3)])
def test_at_the_margin_a_pass_is_as_rare_as_declared_and_intervals_cover_as_often_as_they_say(questions, samples):
    found = _simulated(questions, samples, seed=questions + samples)
    false_pass = (found["increase_upper"] < MARGIN).mean()
    false_block = (found["increase_lower"] > MARGIN).mean()
    coverage = ((found["increase_low"] <= MARGIN) & (found["increase_high"] >= MARGIN)).mean()
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
