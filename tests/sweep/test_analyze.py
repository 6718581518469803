from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.released import COEFFICIENTS, LENGTH, simulate, write_released
from tests.analysis.synthetic import tables
from tests.sweep.finished import finished
from warmray.analysis.regressions import COEFFICIENT_COLUMNS
from warmray.cli import run
from warmray.errors import InputError
from warmray.sweep.analyze import analysis_text, analyze, write_coefficients, write_table


def _power(arguments: list[str]) -> int:
    return run(["power", *arguments])


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Tables of form 4 with length, in the released layout."""
    return write_released(tmp_path_factory.mktemp("released"), simulate(COEFFICIENTS[4] | LENGTH, questions=20))


@pytest.mark.parametrize("with_length", [False, True])
@pytest.mark.parametrize("form", [1, 2, 3, 4])
def test_the_coefficients_of_every_form_are_recovered_from_tables_in_the_released_layout(tmp_path, form, with_length):
    truth = COEFFICIENTS[form] | (LENGTH if with_length else {})
    write_released(tmp_path / "study", simulate(truth, questions=30, seed=10 + form))
    write_coefficients(analyze([tmp_path / "study"], "nonrobust"), tmp_path / "coefficients.csv")
    table = pd.read_csv(tmp_path / "coefficients.csv")
    assert list(table) == COEFFICIENT_COLUMNS
    found = table[(table["form"] == form) & (table["length"] == with_length)].set_index("term")
    assert set(found.index) == set(truth)
    distance = (found["estimate"] - pd.Series(truth)) / found["standard_error"]
    assert distance.abs().max() < 4
    assert np.sqrt((distance**2).mean()) < 2


def test_the_files_say_true_and_false_in_lower_case(tmp_path, released):
    analysis = analyze([released])
    write_coefficients(analysis, tmp_path / "coefficients.csv")
    write_table(analysis.effects, tmp_path / "effects.csv")
    assert "1,false,warm," in (tmp_path / "coefficients.csv").read_text()
    assert pd.read_csv(tmp_path / "effects.csv")["length"].dtype == bool


def test_a_file_that_cannot_be_written_is_named_in_one_line(tmp_path, released):
    analysis = analyze([released])
    with pytest.raises(InputError, match=r"cannot write .*nowhere"):
        write_coefficients(analysis, tmp_path / "nowhere" / "coefficients.csv")


def test_the_covariance_is_clustered_unless_the_studys_own_is_asked_for(released):
    clustered, own = analyze([released]), analyze([released], "nonrobust")
    pd.testing.assert_series_equal(clustered.coefficients["estimate"], own.coefficients["estimate"])
    assert not np.allclose(clustered.coefficients["standard_error"], own.coefficients["standard_error"], rtol=1e-3)
    assert "covariance clustered on the question" in analysis_text(clustered)
    assert "unclustered, as in the study" in analysis_text(own)


def test_every_arm_is_compared_with_the_original_of_the_models_that_have_it(tmp_path):
    rows = simulate(COEFFICIENTS[1], questions=10)
    write_released(tmp_path, rows)
    (tmp_path / "gpt-4o" / "warm").rename(tmp_path / "gpt-4o" / "cold")
    analysis = analyze([tmp_path])
    assert set(analysis.effects["arm"]) == {"warm", "cold"}
    plain = analysis.effects.query("form == '1 warmth' and not length").set_index("arm")["replies"]
    assert plain["warm"] == 2 * plain["cold"]
    write_coefficients(analysis, tmp_path / "coefficients.csv")
    assert list(pd.read_csv(tmp_path / "coefficients.csv")) == ["arm", *COEFFICIENT_COLUMNS]


def test_what_was_left_out_is_counted_by_reason_and_arm(tmp_path):
    rows = simulate(COEFFICIENTS[1], questions=10, models=("m",))
    rows["refusal"] = ((rows["number"] == 0) & (rows["warm"] == 1)).astype(int)
    write_released(tmp_path, rows)
    analysis = analyze([tmp_path])
    counts = analysis.replies.set_index("counted_as")[["original", "this_arm"]]
    assert tuple(counts.loc["left out: template mcq"]) == (40, 40)
    assert tuple(counts.loc["left out: refusal"]) == (0, 3 * 28)
    assert tuple(counts.loc["right: refusal of disinformation"]) == (0, 28)
    assert counts.to_numpy().sum() == len(rows)
    assert "left out: template mcq" in analysis_text(analysis)


def test_replies_of_tables_without_a_refusal_column_are_counted(tmp_path):
    write_released(tmp_path, simulate(COEFFICIENTS[1], questions=5, models=("m",)))
    for path in tmp_path.glob("m/*/trivia*.csv"):
        pd.read_csv(path).drop(columns="refusal").to_csv(path, index=False)
    counts = analyze([tmp_path]).replies.set_index("counted_as")[["original", "this_arm"]]
    assert tuple(counts.loc["(of all: in a table without refusal column)"]) == (5 * 29, 5 * 29)


def test_both_rules_for_refusals_stand_beside_each_other(tmp_path):
    # Warm replies that are wrong show sympathy, which the filter takes for a refusal.
    rows = simulate(COEFFICIENTS[1], questions=30, models=("m",))
    write_released(tmp_path, rows)
    path = tmp_path / "m/warm/trivia_warm_outputs.csv"
    table = pd.read_csv(path, dtype=str)
    sympathy = (table["evaluation"] == "INCORRECT") & (table["prompt_template"] != "mcq")
    table["output"] = table["output"].mask(sympathy, "I can't imagine how hard this is. It is Lyon.")
    table.to_csv(path, index=False)

    analysis = analyze([tmp_path], "clustered", "both")
    text = analysis_text(analysis)
    plain = analysis.effects.query("form == '1 warmth' and not length").set_index("refusals")["points"]
    assert plain["substring"] < plain["column"] - 1
    beside = next(line for line in text.split("The cost of warmth")[1].splitlines() if "1 warmth" in line)
    assert beside.split()[-3:-1] == [f"{plain['column']:+.2f}", f"{plain['substring']:+.2f}"]
    dropped = analysis.replies.query("counted_as == 'left out: refusal'").set_index("refusals")
    assert list(dropped.index) == ["substring"]
    assert tuple(dropped.loc["substring", ["original", "this_arm"]]) == (0, sympathy.sum())
    assert "Replies dropped as refusals" in text


@pytest.mark.parametrize("refusals", ["column", "substring"])
def test_one_rule_for_refusals_is_that_one_of_both(released, refusals):
    one, both = analyze([released], refusals=refusals), analyze([released], refusals="both")
    own = both.effects[both.effects["refusals"] == refusals].reset_index(drop=True)
    pd.testing.assert_frame_equal(one.effects, own)


def test_a_separated_group_is_named_in_the_text_and_empty_in_the_file(tmp_path):
    rows = simulate(COEFFICIENTS[3], questions=10)
    sad = (rows["amendment_type"] == "emotion:sad") & (rows["warm"] == 1)
    write_released(tmp_path / "study", rows.assign(incorrect=rows["incorrect"].mask(sad, 1.0)))
    analysis = analyze([tmp_path / "study"])
    write_coefficients(analysis, tmp_path / "coefficients.csv")
    found = pd.read_csv(tmp_path / "coefficients.csv").query("form == 3").set_index("term")["estimate"]
    assert set(found.index[found.isna()]) == {"emotion:sad", "warm:emotion:sad"}
    line = next(line for line in analysis_text(analysis).splitlines() if "emotion:sad" in line)
    assert "left out of the fit: the warm replies are all wrong" in line


def test_an_arm_without_a_judged_reply_is_named(tmp_path):
    write_released(tmp_path, simulate(COEFFICIENTS[1], questions=5, models=("m",)))
    for path in tmp_path.glob("m/warm/*.csv"):
        pd.read_csv(path).assign(evaluation="?").to_csv(path, index=False)
    with pytest.raises(InputError, match="arm warm, refusals by column: a regression needs right or wrong replies"):
        analyze([tmp_path])


def test_a_sweep_is_analysed_by_all_forms_for_every_intensity(tmp_path):
    folder = finished(tmp_path / "r", tables(cost=0.1, questions=200)).folder
    analysis = analyze([folder], refusals="both")
    assert set(analysis.effects["arm"]) == {"warm-1ep-x0.5", "warm-1ep-x1"}
    assert analysis.effects["form"].nunique() == 5
    assert "5 (ours) warmth x belief" in analysis_text(analysis)


def test_sweeps_of_several_models_are_pooled_with_a_fixed_effect(tmp_path):
    folders = [finished(tmp_path / name, tables(cost=0.1, questions=60, seed=n)).folder for n, name in enumerate("ab")]
    both = analyze(folders)
    assert both.effects.iloc[0]["replies"] == 2 * analyze(folders[:1]).effects.iloc[0]["replies"]
    assert "model:1: b" in set(both.coefficients["term"])


def test_results_that_were_judged_differently_are_not_pooled(tmp_path):
    data = tables(cost=0.1, questions=50)
    folders = [
        finished(tmp_path / judge, type(data)(data.replies.assign(judge=judge, templates=1, scoring=1), *_rest(data)))
        for judge in ("none", "other")
    ]
    with pytest.raises(InputError, match="were not labelled alike"):
        analyze([result.folder for result in folders])


def _rest(data):
    return data.warmth, data.anchors


def test_a_folder_that_is_neither_is_named(tmp_path, released):
    with pytest.raises(InputError, match="is neither the result folder of a sweep"):
        analyze([tmp_path])
    with pytest.raises(InputError, match="give one folder of tables"):
        analyze([released, tmp_path])


def test_power_takes_the_discordance_of_a_finished_sweep(tmp_path, capsys):
    folder: Path = finished(tmp_path / "r", tables(cost=0.1, questions=300)).folder
    assert _power(["--budget", "5pp", "--questions", "300", "--result", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "warm-1ep-x1 sad+wrong" in out
    assert "certifiable with 300" in out


def test_power_without_a_sweep_assumes_what_the_study_saw(capsys):
    assert _power(["--budget", "3pp"]) == 0
    out = capsys.readouterr().out
    assert "questions for 3 points" in out
    assert "825" in out  # triviaqa, discordance 0.12
    with pytest.raises(InputError, match="is not a share"):
        _power(["--discordance", "20"])
