import threading

import openai
import pytest

from tests.generation.endpoint_server import GARBAGE, HALF, RETRY_AFTER_S, SLOW, serve
from warmray.config import EndpointConfig
from warmray.errors import InputError, InterruptedRunError
from warmray.generation import endpoint as module
from warmray.generation.endpoint import Endpoint
from warmray.generation.endpoint_engine import EndpointEngine
from warmray.generation.engine import Request, Sampling

KEY = "sk-secret-1234567890"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def _endpoint(server, **settings) -> Endpoint:
    return Endpoint(EndpointConfig(model="m", base_url=server.url, **settings))


def _requests(count, strength=0.0):
    return [
        Request(str(n), ({"role": "user", "content": f"question {n}"},), Sampling(0.8, 20), strength, seed=n)
        for n in range(count)
    ]


def _replies(endpoint, requests):
    return {c.key: c for batch in EndpointEngine(endpoint).generate(requests) for c in batch}


def test_every_request_is_answered_and_at_most_concurrency_are_sent_at_once():
    three = threading.Barrier(3)  # no request is answered before three have arrived

    def together(body, before):
        three.wait(timeout=30)
        return f"re: {body['messages'][-1]['content']}"

    with serve(together) as server:
        endpoint = _endpoint(server, concurrency=3)
        replies = _replies(endpoint, _requests(12))
    assert {key: reply.text for key, reply in replies.items()} == {str(n): f"re: question {n}" for n in range(12)}
    assert server.most_at_once == 3
    assert server.requests[0]["temperature"] == 0.8
    assert {request["seed"] for request in server.requests} == set(range(12))
    spent = endpoint.take_spent()
    assert (spent.prompt_tokens, spent.completion_tokens) == (84, 36)
    assert endpoint.take_spent().prompt_tokens == 0


@pytest.mark.parametrize("fault", [429, 500, 503, (HALF,)])
def test_transient_failures_are_retried(fault):
    with serve(lambda body, before: fault if before == 0 else "fine") as server:
        assert _replies(_endpoint(server), _requests(1))["0"].text == "fine"
    assert len(server.requests) == 2


def test_a_retry_waits_as_long_as_retry_after_asks(monkeypatch):
    pauses = []
    monkeypatch.setattr(openai._base_client.time, "sleep", pauses.append)
    with serve(lambda body, before: 429 if before == 0 else "fine") as server:
        _replies(_endpoint(server), _requests(1))
    assert pauses == [RETRY_AFTER_S]  # the client's own first pause is shorter


def test_a_request_is_retried_after_a_timeout():
    with serve(lambda body, before: (SLOW,) if before == 0 else "fine") as server:
        assert _replies(_endpoint(server, timeout_s=0.5), _requests(1))["0"].text == "fine"


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ((GARBAGE,), "the answer is not a chat completion"),
        ((HALF,), "failed 2 times, last with"),
        (500, "Error code: 500"),
    ],
)
def test_a_permanent_failure_is_an_error_and_earlier_replies_are_kept(monkeypatch, fault, hint):
    monkeypatch.setattr(module, "MAX_RETRIES", 1)
    got, two_kept = [], threading.Event()

    def fail_after_two(body, before):
        return "fine" if before < 2 or not two_kept.wait(timeout=30) else fault

    def keep(stream):
        for batch in stream:
            got.extend(batch)
            if len(got) == 2:
                two_kept.set()

    with serve(fail_after_two) as server, pytest.raises(InterruptedRunError, match=hint):
        keep(EndpointEngine(_endpoint(server, concurrency=1)).generate(_requests(4)))
    assert [completion.text for completion in got] == ["fine", "fine"]


def test_the_error_for_a_refused_request_does_not_contain_the_key():
    with serve(lambda body, before: 401) as server, pytest.raises(InputError) as caught:
        _replies(_endpoint(server), _requests(1))
    assert "refused the request" in str(caught.value)
    assert "told so; key" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


def test_the_estimate_assumes_full_replies_and_the_given_prices():
    prices = {"price_per_million_prompt_tokens": 1.0, "price_per_million_completion_tokens": 10.0}
    endpoint = Endpoint(EndpointConfig(model="m", base_url="http://127.0.0.1:9/v1", **prices))
    estimate = endpoint.estimate([[{"role": "user", "content": "x" * 4000}]] * 100, max_new_tokens=300)
    assert (estimate.prompt_tokens, estimate.completion_tokens) == (100_000, 30_000)
    assert estimate.cost == pytest.approx(0.1 + 0.3)
    assert str(estimate) == "100,000 prompt and 30,000 completion tokens, 0.40 at the prices given"


def test_a_provider_without_a_key_is_refused_before_any_request(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        Endpoint(EndpointConfig(model="gpt-4o"))


def test_a_request_with_a_strength_is_refused_by_an_endpoint():
    with serve(lambda body, before: "fine") as server, pytest.raises(InputError, match="serves m as it is"):
        _replies(_endpoint(server), _requests(1, strength=0.5))
