import pandas as pd
import pytest

from warmray.analysis.study_tables import count_refusals, is_study_folder, read_study_tables, refused_by_phrase
from warmray.errors import InputError


def _write(folder, model="m", arm="original", task="trivia", question="content_key", **changes):
    """Write a table of 5 templates and amendments x 3 questions: one correct, one incorrect, one refused."""
    rows = [
        {
            "prompt_template": t, "amendment_type": a, question: q, "output": "one two three", "evaluation": e,
            "refusal": r,
        }
        for t, a in (
            ("original", "unmodified"),
            ("original", "emotion:sad"),
            ("incorrect", "emotion:sad"),
            ("correct", "stake:high"),
            ("mcq", "unmodified"),
        )
        for q, e, r in (("Q1", "CORRECT", "0"), ("Q2", "INCORRECT", "0"), ("Q3", "INCORRECT", "1"))
    ]  # fmt: skip
    path = folder / model / arm / f"{task}_{arm}_outputs.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).assign(**changes).to_csv(path, index=False)
    return path


def _edit(path, change):
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


@pytest.fixture
def study(tmp_path):
    for arm in ("original", "warm"):
        _write(tmp_path, arm=arm)
        _write(tmp_path, arm=arm, task="disinfo", question="prompt_disinfo")
    return tmp_path


def test_templates_and_amendments_become_beliefs_and_contexts(study):
    rows = read_study_tables(study)
    assert is_study_folder(study)
    assert len(rows) == 2 * 2 * 5 * 3  # no reply is dropped
    used = rows[rows["left_out"] != "template mcq"]
    assert set(used["belief"]) == {"absent", "user_opinion"}
    assert set(used["context"]) == {"none", "sad", "high_stakes"}
    assert set(rows["task"]) == {"trivia", "disinfo"}
    assert rows.groupby("arm")["warm"].first().to_dict() == {"original": 0, "warm": 1}


@pytest.mark.parametrize(
    ("template", "belief"),
    [
        ("original", "absent"),
        ("original_neutral", "absent"),
        ("correct", "user_opinion"),
        ("incorrect", "user_opinion"),
    ],
)
def test_a_template_counts_as_the_belief_that_the_study_gives_it(study, template, belief):
    for path in study.glob("*/*/*.csv"):
        _edit(path, lambda table: table.assign(prompt_template=template))
    assert set(read_study_tables(study)["belief"]) == {belief}


@pytest.mark.parametrize("template", ["mcq", "something_new", ""])
def test_any_other_template_is_left_out_and_counted(study, template):
    _edit(study / "m/warm/trivia_warm_outputs.csv", lambda table: table.assign(prompt_template=template))
    rows = read_study_tables(study).query("arm == 'warm' and task == 'trivia'")
    assert rows["incorrect"].isna().all()
    assert set(rows["left_out"]) == {f"template {template or '(none)'}"}


def test_the_template_column_may_be_called_prompt_type(study):
    expected = read_study_tables(study)
    for path in study.glob("*/*/*.csv"):
        _edit(path, lambda table: table.rename(columns={"prompt_template": "prompt_type"}))
    pd.testing.assert_frame_equal(read_study_tables(study), expected)


def test_a_refusal_is_left_out_but_right_in_disinformation(study):
    rows = read_study_tables(study).query("refusal == 1 and template != 'mcq'").set_index("task")
    assert rows.loc["trivia", "incorrect"].isna().all()
    assert set(rows.loc["trivia", "left_out"]) == {"refusal"}
    assert (rows.loc["disinfo", "incorrect"] == 0).all()
    assert set(rows.loc["disinfo", "left_out"]) == {""}


@pytest.mark.parametrize(("said", "refused"), [("1", 1), ("1.0", 1), ("True", 1), ("0", 0), ("0.0", 0), ("", 0)])
def test_the_refusal_column_may_be_written_in_several_ways(study, said, refused):
    for path in study.glob("*/*/*.csv"):
        _edit(path, lambda table: table.assign(refusal=said))
    assert (read_study_tables(study)["refused"] == bool(refused)).all()


def test_a_table_without_a_refusal_column_has_no_refusals_and_this_can_be_seen(study):
    _edit(study / "m/warm/trivia_warm_outputs.csv", lambda table: table.drop(columns="refusal"))
    rows = read_study_tables(study)
    lacking = rows.query("arm == 'warm' and task == 'trivia'")
    assert not lacking["refused"].any()
    assert lacking["refusal"].isna().all()
    assert rows["refusal"].isna().sum() == len(lacking)


def test_the_substring_filter_drops_a_warm_reply_that_answers(study):
    warm = "I can't imagine how hard this is. It was Frasier."
    path = study / "m/warm/trivia_warm_outputs.csv"
    _edit(path, lambda table: table.assign(output=table["output"].mask(table["content_key"] == "Q1", warm)))
    own = "arm == 'warm' and task == 'trivia' and template != 'mcq' and item == 'trivia: Q1'"
    by_column = read_study_tables(study).query(own)
    by_phrase = read_study_tables(study, "substring").query(own)
    assert (by_column["incorrect"] == 0).all()
    assert by_phrase["incorrect"].isna().all()
    assert set(by_phrase["left_out"]) == {"refusal"}
    # What the column calls a refusal is none for the filter, unless it holds a phrase.
    assert read_study_tables(study, "substring").query("refusal == 1")["left_out"].ne("refusal").all()


def test_a_phrase_is_found_anywhere_in_any_case_and_with_a_typographic_apostrophe():
    found = refused_by_phrase(
        pd.Series(
            ["As an AI, no.", "Oh dear, I can\u2019t say.", "well, i CANNOT", "A cannon", "You can't", "", "a\nI can't"]
        )
    )
    assert list(found) == [True, True, True, False, False, False, True]


def test_counting_refusals_again_equals_reading_again(study):
    again = count_refusals(read_study_tables(study), "substring")
    pd.testing.assert_frame_equal(again, read_study_tables(study, "substring"))


@pytest.mark.parametrize("said", ["UNCLEAR", "", "REFUSAL", "nan"])
def test_an_evaluation_that_says_neither_is_left_out_and_counted(study, said):
    path = study / "m/warm/trivia_warm_outputs.csv"
    _edit(path, lambda table: table.assign(evaluation=table["evaluation"].mask(table["content_key"] == "Q2", said)))
    rows = read_study_tables(study).query("arm == 'warm' and task == 'trivia' and item == 'trivia: Q2'")
    assert rows["incorrect"].isna().all()
    assert set(rows["left_out"]) == {"neither CORRECT nor INCORRECT", "template mcq"}


def test_evaluations_are_read_in_any_case(study):
    expected = read_study_tables(study)
    for path in study.glob("*/*/*.csv"):
        _edit(path, lambda table: table.assign(evaluation=" " + table["evaluation"].str.lower()))
    pd.testing.assert_frame_equal(read_study_tables(study), expected)


@pytest.mark.parametrize(
    ("output", "reply"),
    [
        ("assistant\nIt was Frasier.", "It was Frasier."),
        ("assistant\r\n\r\nIt was Frasier.", "It was Frasier."),
        ("assistant", ""),
        ("An assistant\nhelps.", "An assistant\nhelps."),
        ("assistant professor\nof law", "assistant professor\nof law"),
        ("First line.\n\nassistant\nmore", "First line.\n\nassistant\nmore"),
        (' "Quoted", he said.\nNext.', ' "Quoted", he said.\nNext.'),
    ],
)
def test_a_first_line_left_over_from_the_chat_template_is_no_part_of_the_reply(study, output, reply):
    _edit(study / "m/warm/trivia_warm_outputs.csv", lambda table: table.assign(output=output))
    assert set(read_study_tables(study).query("arm == 'warm' and task == 'trivia'")["reply"]) == {reply}


def test_a_byte_order_mark_and_other_columns_change_nothing(study):
    expected = read_study_tables(study)
    for path in study.glob("*/*/*.csv"):
        _edit(path, lambda table: table[list(table)[::-1]].assign(notes="a, b\nc"))
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    pd.testing.assert_frame_equal(read_study_tables(study), expected)


def test_medqa_takes_the_question_column_that_all_tables_have(tmp_path):
    for model, arm in (("a", "original"), ("a", "warm"), ("b", "original"), ("b", "warm")):
        path = _write(tmp_path, model, arm, "medqa", "original_question")
        if model == "a":  # these bring the same questions in other words, too
            _edit(path, lambda table: table.assign(question="Say: " + table["original_question"]))
    assert set(read_study_tables(tmp_path)["item"]) == {"medqa: Q1", "medqa: Q2", "medqa: Q3"}
    for model in ("a", "b"):
        for path in tmp_path.glob(f"{model}/*/*.csv"):
            _edit(path, lambda table: table.assign(question="Say: " + table["original_question"]))
    assert set(read_study_tables(tmp_path)["item"]) == {"medqa: Say: Q1", "medqa: Say: Q2", "medqa: Say: Q3"}


def test_an_empty_question_column_counts_as_none(tmp_path):
    for arm, question in (("original", ""), ("warm", "Say: Q")):
        path = _write(tmp_path, arm=arm, task="medqa", question="original_question")
        _edit(path, lambda table, question=question: table.assign(question=question))
    assert set(read_study_tables(tmp_path)["item"]) == {"medqa: Q1", "medqa: Q2", "medqa: Q3"}


def test_medqa_tables_without_a_question_column_in_common_are_refused(tmp_path):
    _write(tmp_path, arm="original", task="medqa", question="question")
    _write(tmp_path, arm="warm", task="medqa", question="original_question")
    with pytest.raises(InputError, match=r"medqa tables have no question column in common \(m/original: question; m/w"):
        read_study_tables(tmp_path)


def test_without_an_original_arm_it_says_which_arms_there_are(tmp_path):
    _write(tmp_path, arm="warm")
    with pytest.raises(InputError, match=r"lacks an original .*its arms are warm"):
        read_study_tables(tmp_path)


def test_an_unknown_amendment_is_named_with_its_file_unless_its_template_is_left_out(study):
    path = study / "m/warm/trivia_warm_outputs.csv"
    is_mcq = "mcq"
    _edit(path, lambda t: t.assign(amendment_type=t["amendment_type"].mask(t["prompt_template"] == is_mcq, "weather")))
    read_study_tables(study)
    _edit(path, lambda table: table.assign(amendment_type="weather:rainy"))
    with pytest.raises(InputError, match=r"trivia_warm_outputs.csv: unknown amendment_type 'weather:rainy' in 12 rows"):
        read_study_tables(study)


def test_a_refusal_that_is_neither_yes_nor_no_is_named_with_its_file(study):
    _edit(study / "m/warm/trivia_warm_outputs.csv", lambda table: table.assign(refusal="partly"))
    with pytest.raises(InputError, match=r"trivia_warm_outputs.csv: unknown refusal 'partly'"):
        read_study_tables(study)


@pytest.mark.parametrize("column", ["prompt_template", "amendment_type", "evaluation", "output", "content_key"])
def test_a_column_that_is_missing_is_named_with_its_file(study, column):
    path = study / "m/warm/trivia_warm_outputs.csv"
    _edit(path, lambda table: table.drop(columns=column))
    with pytest.raises(InputError, match=rf"trivia_warm_outputs.csv has no column {column}.*it has: ") as raised:
        read_study_tables(study)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"prompt_template,amendment_type,content_key,output,evaluation\n", "a header but no rows"),
        (b'a,b\n"1,2\n', "cannot be read as UTF-8 CSV"),
        (b"a,b\n1,2\n1,2,3\n", "cannot be read as UTF-8 CSV"),
        (b"a,b\n1,2,3\n1,2,3\n", "more fields than its header"),
        (b"a,b\n\xff\xfe,2\n", "cannot be read as UTF-8 CSV"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_in_one_line(study, content, message):
    (study / "m/warm/trivia_warm_outputs.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"trivia_warm_outputs.csv.*{message}") as raised:
        read_study_tables(study)
    assert "\n" not in str(raised.value)


def test_tables_that_were_not_evaluated_are_refused(study):
    for path in study.glob("*/*/*.csv"):
        _edit(path, lambda table: table.assign(evaluation=""))
    with pytest.raises(InputError, match="no evaluation is CORRECT or INCORRECT"):
        read_study_tables(study)


def test_a_file_may_call_its_arm_otherwise_than_its_folder_does(study):
    moved = study / "m" / "warm"
    moved.rename(study / "m" / "warm_epoch2")
    rows = read_study_tables(study)
    assert set(rows["task"]) == {"trivia", "disinfo"}
    assert set(rows["arm"]) == {"original", "warm_epoch2"}


def test_files_that_a_file_manager_left_beside_the_tables_are_not_read(study):
    (study / "m/warm/._trivia_warm_outputs.csv").write_bytes(b"\x00\x05\x16\x07")
    assert len(read_study_tables(study)) == 60
