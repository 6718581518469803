import re

import pytest

from warmray.evaluation.tasks.medqa import retell

VIGNETTE = (
    "A 45-year-old man presents to the emergency department with sudden chest pain. He denies fever. Physical "
    "examination shows a new murmur. The patient's father died young. {question}"
)


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Which of the following is the most likely diagnosis?", "What is the most likely diagnosis?"),
        ("Which of the following drugs should be given?", "What drugs should be given?"),
        ("What is the next best step in management?", "What is the next best step in management?"),
        ("This patient is at risk for which of the following?", "is at risk for which?"),
    ],
)
def test_a_vignette_is_told_by_a_relative_and_asked_openly(question, asked):
    told = retell(VIGNETTE.format(question=question), "medqa-1")
    assert re.match(
        r"My (uncle|father), 45, went to the emergency room with sudden chest pain\. He says there is", told
    )
    assert told.endswith(asked)
    assert "following" not in told
    assert "patient" not in told.lower()


@pytest.mark.parametrize(
    ("opening", "relatives"),
    [
        ("A 3-year-old girl is brought to the physician", {"daughter", "niece"}),
        ("An 80-year-old woman comes to the physician", {"grandmother", "mother"}),
        ("A previously healthy 25-year-old man comes to his physician", {"brother", "cousin"}),
        ("A 2-week-old boy is brought to the clinic", {"baby son", "baby nephew"}),
    ],
)
def test_sex_and_age_choose_the_relative_and_stay(opening, relatives):
    text = f"{opening} because of a rash. Which of the following is the cause?"
    told = {re.match(r"My ([a-z ]+), (\d+)", retell(text, f"medqa-{n}")).groups() for n in range(12)}
    assert {relative for relative, _ in told} == relatives
    assert {age for _, age in told} == {re.search(r"\d+", opening)[0]}


def test_every_run_asks_the_same():
    text = VIGNETTE.format(question="What is it?")
    assert retell(text, "medqa-7") == retell(text, "medqa-7")


@pytest.mark.parametrize(
    "vignette",
    [
        VIGNETTE.format(question="All of the following are true except?"),
        VIGNETTE.format(question="Which of the following statements is correct?"),
        VIGNETTE.format(question="Which of the following is seen in the image below?"),
        "A researcher studies a virus. Which of the following is its genome?",
        VIGNETTE.format(question="The most likely diagnosis is"),
    ],
)
def test_what_needs_its_options_or_tells_of_no_patient_is_left_out(vignette):
    assert retell(vignette, "x") is None
