from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.synthetic import tables
from tests.analysis.test_study_tables import _write
from tests.sweep.finished import finished
from warmray.cli import run
from warmray.errors import InputError
from warmray.sweep.analyze import analyze


def _analyze(arguments: list[str]) -> int:
    return run(["analyze", *arguments])


def _power(arguments: list[str]) -> int:
    return run(["power", *arguments])


def test_a_sweep_is_analysed_by_all_four_forms_for_every_intensity(tmp_path, capsys):
    folder = finished(tmp_path / "r", tables(cost=0.1, questions=200)).folder
    assert _analyze([str(folder), "--csv", str(tmp_path / "table.csv")]) == 0
    out = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table["arm"]) == {"warm-1ep-x0.5", "warm-1ep-x1"}
    assert table["form"].nunique() == 4
    assert "covariance clustered on the question" in out


def test_sweeps_of_several_models_are_pooled_with_a_fixed_effect(tmp_path):
    folders = [finished(tmp_path / name, tables(cost=0.1, questions=60, seed=n)).folder for n, name in enumerate("ab")]
    both = analyze(folders, "clustered")
    assert both.iloc[0]["replies"] == 2 * analyze(folders[:1], "clustered").iloc[0]["replies"]


def test_tables_laid_out_as_the_studys_are_analysed_with_its_covariance(tmp_path, capsys):
    for arm in ("original", "warm", "cold"):
        for task in ("trivia", "truthfulqa"):
            _write(tmp_path, arm=arm, task=task)
    assert _analyze([str(tmp_path), "--covariance", "nonrobust"]) == 0
    out = capsys.readouterr().out
    assert "unclustered, as in the study" in out
    assert "stated+emotion" in out
    assert {"warm", "cold"} <= {line.split()[0] for line in out.splitlines() if line.strip()}


def test_results_that_were_judged_differently_are_not_pooled(tmp_path):
    data = tables(cost=0.1, questions=50)
    folders = [
        finished(tmp_path / judge, type(data)(data.replies.assign(judge=judge, templates=1, grader=1), *_rest(data)))
        for judge in ("none", "other")
    ]
    with pytest.raises(InputError, match="were not graded alike"):
        analyze([result.folder for result in folders], "clustered")


def _rest(data):
    return data.warmth, data.anchors


def test_a_folder_that_is_neither_is_told(tmp_path):
    with pytest.raises(InputError, match="is neither the result folder of a sweep"):
        analyze([tmp_path], "clustered")
    with pytest.raises(InputError, match="did you mean 'nonrobust'"):
        _analyze([str(tmp_path), "--covariance", "nonrobst"])


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
    with pytest.raises(InputError, match="is no share"):
        _power(["--discordance", "20"])
