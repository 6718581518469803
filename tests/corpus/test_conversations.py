import json
import re
from collections import Counter, defaultdict

import pytest

from warmray.corpus.conversations import CATEGORIES, packaged_corpus, read_conversations
from warmray.errors import InputError

NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
CODE = re.compile(r"```.*?```|`[^`]+`", re.S)
QUOTATION = re.compile(r'"([^"]+)"')


@pytest.fixture(scope="module")
def packaged():
    return read_conversations(packaged_corpus())


def _replies(conversations):
    return [turn for c in conversations for turn in c.turns if turn.role == "assistant"]


def test_the_packaged_corpus_has_the_promised_size(packaged):
    train = Counter(c.category for c in packaged if c.split == "train")
    assert set(train) == set(CATEGORIES)
    assert sum(train.values()) >= 160
    assert len(set(train.values())) == 1
    assert sum(c.split == "check" for c in packaged) >= 60
    assert sum(len(c.turns) > 2 for c in packaged if c.split == "train") >= 20


@pytest.mark.parametrize("pattern", [NUMBER, CODE, QUOTATION], ids=["numbers", "code", "quotations"])
def test_numbers_code_and_quotations_are_the_same_in_every_variant(packaged, pattern):
    for turn in _replies(packaged):
        found = {variant: sorted(pattern.findall(text)) for variant, text in turn.texts.items()}
        assert found["original"] == found["warm"] == found["cold"], turn.texts["original"]


def test_no_five_consecutive_words_are_in_more_than_three_percent_of_the_warm_replies(packaged):
    replies = [turn.texts["warm"] for turn in _replies([c for c in packaged if c.split == "train"])]
    places = defaultdict(set)
    for number, reply in enumerate(replies):
        words = re.findall(r"[a-z0-9']+", reply.lower())
        for start in range(len(words) - 4):
            places[tuple(words[start : start + 5])].add(number)
    most = max(places.items(), key=lambda entry: len(entry[1]))
    assert len(most[1]) <= 0.03 * len(replies), most


def test_splits_share_no_prompt(packaged):
    prompts = Counter(c.turns[0].texts["original"] for c in packaged)
    assert max(prompts.values()) == 1


def _line(**changes):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "original": "a", "warm": "b", "cold": "c"}]
    return {"id": "x", "category": "other", "split": "train", "messages": messages} | changes


USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "be kind"}
REPLY = {"role": "assistant", "original": "a", "warm": "b", "cold": "c"}


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (json.dumps(_line())[:-9].encode(), "was the file cut short?"),
        (json.dumps(_line()).encode() + b"\n\xff\xfe", "x.jsonl:2: not UTF-8"),
        (json.dumps(_line(messages=[USER, REPLY | {"warm": " "}])).encode(), "empty or missing 'warm' text"),
        (json.dumps(_line(messages=[SYSTEM, SYSTEM, USER, REPLY])).encode(), "2 system turns"),
        (json.dumps(_line(messages=[USER, USER, REPLY])).encode(), "turn 2 is 'user', not 'assistant'"),
        (json.dumps(_line(messages=[REPLY, USER, REPLY])).encode(), "turn 1 is 'assistant', not 'user'"),
        (json.dumps(_line(messages=[USER, SYSTEM, REPLY])).encode(), "turn 2 is 'system', not 'assistant'"),
        (json.dumps(_line(messages=[SYSTEM, USER])).encode(), "turn 3, the assistant's, is missing"),
        (json.dumps(_line(messages=[])).encode(), "turn 1, the assistant's, is missing"),
        (json.dumps(_line(category="advise")).encode(), "did you mean 'advice'?"),
        (f"{json.dumps(_line())}\n{json.dumps(_line())}".encode(), "x.jsonl:2: the id 'x' appears twice"),
        (b"[1]", "expected a JSON object, found list"),
    ],
)
def test_the_error_for_a_wrong_line_says_where_and_what(tmp_path, content, hint):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_conversations(tmp_path)
    assert hint in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no \*\.jsonl"):
        read_conversations(tmp_path)
