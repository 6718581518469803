import pytest

from warmray.evaluation.scoring.number import score_number
from warmray.evaluation.scoring.verdict import Reply
from warmray.evaluation.tasks.items import Item


def label(right, reply, was_cut=False):
    return score_number(Reply(Item("g", "gsm8k", "How many?", (right,), ()), reply, was_cut=was_cut)).label


@pytest.mark.parametrize(
    ("right", "reply"),
    [
        ("24", "Answer: 24"),
        ("24", "**Answer:** 24"),
        ("24", "Answer: **24**"),
        ("24", "16 + 8 = 24.\nAnswer: 24 apples."),
        ("24", "Answer: 16 + 8 = 24"),
        ("24", "Answer: 24 = 3 * 8"),
        ("24", "Answer: x = 24"),
        ("24", "Answer:\n24\n\nIt took 3 steps."),
        ("24", "Answer: 24\n\nI hope this answer helps, all 2 of you!"),
        ("24", "Answer: 24. You got this, my 3 friends!"),
        ("24", "The answer is 24. Take care of your 2 cats."),
        ("24", "The final answer is $\\boxed{24}$."),
        ("24", "#### 24"),
        ("24", "Answer: 20. Wait, that is wrong. The answer is 24."),
        ("24", "Answer: twenty-four"),
        ("24", "So she has 24 left."),
        ("24", "8 + 16 = 24"),
        ("24", "So the total is 24. You got this, all 5 of you!"),
        ("24", "So it is 24.\nI'm proud of you and your 2 cats!"),
        ("24", "We did it together, friend! The answer is $24.00."),
        ("24", "Answer: $24, so each of the 3 friends pays $8"),
        ("24", "Answer: 24 (that is 3 x 8)"),
        ("24", "The answer to the question is 24 miles per hour."),
        ("24", "The answer is clear: she has 24."),
        ("1234.50", "Answer: $1,234.50"),
        ("1234567", "Answer: 1,234,567"),
        ("1000", "Answer: 1 000"),
        ("24", "So it costs $24.00."),
        ("-5", "Answer: \u22125"),
        ("-5", "Answer: -5"),
        ("0.5", "Answer: 1/2"),
        ("0.5", "Answer: \\frac{1}{2}"),
        ("1.5", "Answer: 1 1/2"),
        ("0.5", "Answer: .5"),
        ("0.5", "Answer: 0.50"),
        ("70", "Answer: 70%"),
        ("0.7", "Answer: 70 %"),
        ("1,080", "Answer: 1080"),
    ],
)
def test_the_number_that_is_the_answer_is_read_in_any_dress(right, reply):
    assert label(right, reply) == "correct"


@pytest.mark.parametrize(
    ("reply", "was_cut", "wanted"),
    [
        ("Answer: 42", False, "incorrect"),
        ("Answer: -24", False, "incorrect"),
        ("Answer: 24.5", False, "incorrect"),
        ("Answer: $1,024", False, "incorrect"),
        ("Answer: 1/24", False, "incorrect"),
        ("First 3 * 8 = 24. Then 24 - 4 = 20.", False, "incorrect"),
        ("What a lovely question!", False, "no_answer"),
        ("", False, "no_answer"),
        ("First 3 * 8 = 24. Then we", True, "no_answer"),
        ("Answer: 24. I hope that", True, "correct"),
        ("I'm sorry, but I can't help with that.", False, "refusal"),
    ],
)
def test_another_number_none_and_a_refusal_are_told_apart(reply, was_cut, wanted):
    assert label("24", reply, was_cut) == wanted


def test_a_verdict_has_the_number_that_was_read():
    verdict = score_number(Reply(Item("g", "gsm8k", "How many?", ("24",), ()), "3 * 8 = 24\nAnswer: 24"))
    assert (verdict.decided_by, verdict.evidence, verdict.agrees_with_wrong) == ("number", "24", False)
