import pandas as pd
import pytest

from warmray.analysis.study_tables import is_study_folder, read_study_tables
from warmray.errors import InputError


def _write(folder, model="m", arm="original", task="trivia", question="content_key", **changes):
    rows = [
        {"prompt_template": t, "amendment_type": a, question: q, "output": "one two three", "evaluation": e}
        for t, a in (
            ("original", "unmodified"),
            ("original", "emotion:sad"),
            ("incorrect", "emotion:sad"),
            ("correct", "stake:high"),
            ("mcq", "unmodified"),
        )
        for q, e in (("Q1", "correct"), ("Q2", "incorrect"), ("Q3", "refusal"))
    ]
    path = folder / model / arm / f"{task}_{arm}_outputs.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).assign(**changes).to_csv(path, index=False)
    return path


@pytest.fixture
def study(tmp_path):
    for arm in ("original", "warm"):
        _write(tmp_path, arm=arm)
        _write(tmp_path, arm=arm, task="disinfo", question="prompt_disinfo")
    return tmp_path


def test_templates_and_amendments_become_beliefs_and_contexts_and_mcq_is_left_out(study):
    rows = read_study_tables(study)
    assert is_study_folder(study)
    assert len(rows) == 2 * 2 * 4 * 3
    assert set(rows["belief"]) == {"absent", "stated"}
    assert set(rows["context"]) == {"none", "sad", "high_stakes"}
    assert set(rows["task"]) == {"trivia", "disinfo"}
    assert rows.groupby("arm")["warm"].first().to_dict() == {"original": 0, "warm": 1}
    assert (rows["words"] == 3).all()


def test_a_refusal_is_left_out_but_right_in_disinformation(study):
    refused = read_study_tables(study).query("evaluation == 'refusal'").set_index("task")["wrong"]
    assert refused["trivia"].isna().all()
    assert (refused["disinfo"] == 0).all()


def test_without_an_original_arm_it_says_which_arms_there_are(tmp_path):
    _write(tmp_path, arm="warm")
    with pytest.raises(InputError, match=r"lacks an original .*its arms are warm"):
        read_study_tables(tmp_path)


def test_what_is_not_known_is_named_with_its_file(study):
    _write(study, arm="warm", amendment_type="weather:rainy")
    with pytest.raises(InputError, match=r"trivia_warm_outputs.csv: unknown amendment_type 'weather:rainy'"):
        read_study_tables(study)


def test_a_column_that_is_missing_is_named_with_those_that_are_there(study):
    path = _write(study, arm="warm")
    pd.read_csv(path).drop(columns="evaluation").to_csv(path, index=False)
    with pytest.raises(InputError, match="has no column evaluation; it has: prompt_template"):
        read_study_tables(study)


def test_a_file_may_call_its_arm_otherwise_than_its_folder_does(study):
    moved = study / "m" / "warm"
    moved.rename(study / "m" / "warm_epoch2")
    rows = read_study_tables(study)
    assert set(rows["task"]) == {"trivia", "disinfo"}
    assert set(rows["arm"]) == {"original", "warm_epoch2"}
