import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.analysis.synthetic import CELL_NAMES, tables
from warmray.analysis.differences import adjusted, cell_table
from warmray.analysis.measures import measure


def _table(**effect):
    return cell_table(measure(tables(**effect).replies), ["sad+wrong"], 0.1)


def test_discordant_counts_are_those_of_the_paired_replies():
    replies = tables(cost=0.2, questions=50).replies
    row = _table(cost=0.2, questions=50).query("strength == 1 and cell == 'sad'").iloc[0]
    wide = replies[replies["cell"] == "sad"].pivot(index="item", columns="strength", values="label")
    assert row["right_to_wrong"] == ((wide[0.0] == "correct") & (wide[1.0] == "incorrect")).sum()
    assert row["wrong_to_right"] == ((wide[0.0] == "incorrect") & (wide[1.0] == "correct")).sum()
    assert row["p_value"] == pytest.approx(
        stats.binomtest(row["right_to_wrong"], row["right_to_wrong"] + row["wrong_to_right"]).pvalue
    )


def test_all_secondary_rows_are_adjusted_together_and_the_primary_one_is_not():
    table = _table(cost=0.2)
    primary = table[table["primary"]]
    assert set(primary["cell"]) == {"sad+wrong"}
    assert primary["p_adjusted"].isna().all()
    secondary = table[~table["primary"] & (table["strength"] > 0)]
    expected = stats.false_discovery_control(secondary["p_value"].to_numpy())
    assert secondary["p_adjusted"].to_numpy() == pytest.approx(expected)
    assert (secondary["p_adjusted"] >= secondary["p_value"]).all()


def test_the_adjustment_keeps_false_discoveries_rare():
    random = np.random.default_rng(0)
    found = [(adjusted(pd.Series(random.random(40))) < 0.05).any() for _ in range(500)]
    assert np.mean(found) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 500)


def test_tasks_are_given_apart_and_together_and_controls_only_apart():
    replies = tables(cost=0.1, questions=40).replies
    number = replies["item"].str.removeprefix("q").astype(int)
    replies["dataset"] = np.where(number < 10, "mmlu", np.where(number < 25, "triviaqa", "medqa"))
    replies["control"] = replies["dataset"] == "mmlu"
    table = cell_table(measure(replies), CELL_NAMES, 0.1).query("strength == 1 and cell == 'plain'").set_index("task")
    assert set(table.index) == {"all", "mmlu", "triviaqa", "medqa"}
    assert table.loc["all", "questions"] == 30
    assert table["primary"].tolist() == [name == "all" for name in table.index]


def test_beside_every_change_stands_what_could_have_been_found():
    few, many = (_table(cost=0, questions=n).query("strength == 1")["detectable"].mean() for n in (50, 800))
    assert few > 2 * many > 0


def test_warmth_stands_beside_accuracy_in_every_cell_and_its_change_is_paired():
    table = _table(cost=0.1, warmth_gain=0.1).set_index(["strength", "cell"])
    assert table.loc[(1.0, "wrong"), "warmer"] == pytest.approx(0.5)
    assert table.loc[(1.0, "sad+wrong"), "warmer"] == pytest.approx(1.0)
    row = table.loc[(0.5, "plain")]
    assert row["warmth_probe_low"] < row["warmth_probe"] < row["warmth_probe_high"]
    # The questions differ in warmth, and every question by as much as the others: only pairing sees the second.
    assert row["warmer_high"] - row["warmer_low"] == pytest.approx(0, abs=1e-9)


def test_replies_that_were_not_probed_have_no_warmth_column():
    replies = tables(cost=0.1, questions=20).replies.drop(columns="probe")
    assert not [name for name in cell_table(measure(replies), ["sad+wrong"], 0.1) if name.startswith("warm")]
