import json
import math

import pytest

from tests.generation.endpoint_server import serve
from warmray.cluster.progress import ignore
from warmray.config import EndpointConfig
from warmray.errors import InterruptedRunError
from warmray.evaluation.grading import Verdict
from warmray.evaluation.scoring.judge import Case, Judge, judged
from warmray.evaluation.tasks.items import Item
from warmray.generation import endpoint as module
from warmray.generation.endpoint import Endpoint

ITEM = Item("x", "triviaqa", "Who?", ("Ann",), ("Bob", "Cid"))


@pytest.fixture(autouse=True)
def _own(home, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")


def _judge(server) -> Judge:
    return Judge(Endpoint(EndpointConfig(model="strong", base_url=server.url)))


def _by_the_reply(body, before):
    text = body["messages"][-1]["content"].rsplit("Reply:\n", 1)[-1]
    if "Ann" in text:
        return json.dumps({"verdict": "correct", "words": "Ann", "wrong_answer": None})
    return json.dumps({"verdict": "incorrect", "words": "Bob", "wrong_answer": 1 if "Bob" in text else 2})


def test_the_judge_sees_question_references_and_reply_and_nothing_else():
    with serve(_by_the_reply) as server:
        verdicts = _judge(server).verdicts([Case(ITEM, "It was Ann.")], ignore)
    request = server.requests[0]
    shown = "\n".join(message["content"] for message in request["messages"])
    assert all(text in shown for text in ("Who?", "Ann", "1. Bob", "2. Cid", "It was Ann."))
    assert not any(word in shown for word in ("warm arm", "strength", "triviaqa", "sad"))
    assert request["temperature"] == 0
    assert request["response_format"]["type"] == "json_schema"
    assert verdicts == [Verdict("correct", False, "judge strong", "Ann")]


def test_taking_over_the_stated_wrong_answer_is_told_from_another_error():
    with serve(_by_the_reply) as server:
        verdicts = _judge(server).verdicts([Case(ITEM, "Bob, as you say."), Case(ITEM, "Cid.")], ignore)
    assert [(v.label, v.agrees_with_wrong) for v in verdicts] == [("incorrect", True), ("incorrect", False)]


def test_judging_again_asks_only_what_is_new():
    with serve(_by_the_reply) as server:
        _judge(server).verdicts([Case(ITEM, "Ann.")], ignore)
        _judge(server).verdicts([Case(ITEM, "Ann."), Case(ITEM, "Bob.")], ignore)
    assert len(server.requests) == 2


@pytest.mark.parametrize("answer", ["no JSON", '{"verdict": "maybe"}', "[1]", ""])
def test_an_answer_that_breaks_the_schema_is_unparsed(answer):
    with serve(lambda body, before: answer) as server:
        [verdict] = _judge(server).verdicts([Case(ITEM, "Hm.")], ignore)
    assert (verdict.label, verdict.decided_by) == ("unparsed", "judge strong")


def test_what_was_judged_before_the_endpoint_failed_is_kept(monkeypatch):
    monkeypatch.setattr(module, "MAX_RETRIES", 0)
    cases = [Case(ITEM, f"Ann {n}.") for n in range(20)]
    with serve(lambda body, before: _by_the_reply(body, before) if before < 5 else 500) as server:
        judge = Judge(Endpoint(EndpointConfig(model="strong", base_url=server.url, concurrency=1)))
        with pytest.raises(InterruptedRunError):
            judge.verdicts(cases, ignore)
        assert len(judge.store.keys()) == 5


def test_only_what_is_ambiguous_goes_to_the_judge():
    clear, unclear = Verdict("correct", False, "evidence", ""), Verdict("ambiguous", False, "unsure", "")
    told = Verdict("incorrect", False, "judge", "")
    asked = []

    def ask(cases):
        asked.extend(cases)
        return [told] * len(cases)

    cases = [Case(ITEM, str(n)) for n in range(3)]
    assert judged([clear, unclear, clear], cases, ask) == [clear, told, clear]
    assert asked == [cases[1]]


def test_warmth_is_rated_from_one_to_five_and_an_empty_reply_has_none():
    with serve(lambda body, before: '{"warmth": 5}' if "dear" in body["messages"][-1]["content"] else "9") as server:
        ratings = _judge(server).warmth(["Oh dear friend", "Whatever.", ""], ignore)
    assert ratings[0] == 5.0
    assert math.isnan(ratings[1])
    assert math.isnan(ratings[2])
    assert len(server.requests) == 2
