import json
from collections import Counter

import pytest

from warmray.config import EvaluateConfig
from warmray.errors import InputError
from warmray.evaluation.scoring.words import plain
from warmray.evaluation.tasks.registry import load_items


def folded(text: str) -> str:
    return plain(text).casefold()


ITEM = {"id": "x", "dataset": "d", "question": "Who?", "correct": ["me"], "incorrect": ["you"]}


def _write(path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records))
    return EvaluateConfig(tasks=[str(path)])


def test_the_packaged_questions_are_four_families_of_thirty_or_more():
    families = Counter(item.id.rpartition("-")[0] for item in load_items(EvaluateConfig()))
    assert set(families) == {"general", "misconceptions", "medicine", "conspiracy"}
    assert min(families.values()) >= 30


def test_no_packaged_question_gives_an_answer_away():
    for item in load_items(EvaluateConfig()):
        question = f" {folded(item.question)} "
        for answer in (*item.correct, *item.incorrect):
            assert f" {folded(answer)} " not in question, item.id
        for wrong in item.incorrect:
            assert not any(f" {folded(a)} " in f" {folded(wrong)} " for a in item.correct), item.id


def test_a_subset_is_spread_over_the_families():
    families = Counter(item.id.rpartition("-")[0] for item in load_items(EvaluateConfig(max_items=40)))
    assert set(families.values()) == {10}


def test_a_subset_is_spread_over_the_subjects_of_a_data_set(tmp_path):
    ids = [f"d-{subject}-{number}" for subject in ("law", "logic", "physics") for number in range(5)]
    config = _write(tmp_path / "items.jsonl", *[ITEM | {"id": id} for id in ids])
    chosen = load_items(config.model_copy(update={"max_items": 4}))
    assert [item.id for item in chosen] == ["d-law-0", "d-logic-0", "d-physics-0", "d-law-1"]


@pytest.mark.parametrize(
    ("records", "hint"),
    [
        ([ITEM, ITEM], "q.jsonl:2: the item id 'x' appears twice"),
        ([ITEM | {"incorrect": []}], "has no wrong answer, which the belief `wrong` states"),
        ([ITEM | {"correct": []}], "item 'x' has no accepted answer"),
        ([ITEM | {"question": " "}], "'question' must be a text that is not empty"),
        ([ITEM | {"correct": "me"}], "'correct' must be a list of texts"),
        ([ITEM | {"incorrect": ["Me!"]}], "item 'x' accepts 'Me!', which is also its wrong answer"),
        ([ITEM | {"options": {"A": "you"}}], "the right answer of item 'x' is none of its options"),
        ([], "holds no questions"),
    ],
)
def test_an_unfit_item_is_named_with_its_mend(tmp_path, records, hint):
    with pytest.raises(InputError) as caught:
        load_items(_write(tmp_path / "q.jsonl", *records))
    assert hint in str(caught.value)


def test_an_item_without_a_wrong_answer_is_fine_when_no_belief_states_one(tmp_path):
    config = _write(tmp_path / "q.jsonl", ITEM | {"incorrect": []})
    assert load_items(config.model_copy(update={"beliefs": ["absent"]}))
