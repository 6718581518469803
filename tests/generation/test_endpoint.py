import time

import pytest

from tests.generation.endpoint_server import GARBAGE, HALF, SLOW, serve
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


def test_every_request_is_answered_within_the_bound_of_requests_under_way():
    def slowly(body, before):
        time.sleep(0.05)
        return f"re: {body['messages'][-1]['content']}"

    with serve(slowly) as server:
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
def test_what_may_pass_is_tried_again(fault):
    with serve(lambda body, before: fault if before == 0 else "fine") as server:
        assert _replies(_endpoint(server), _requests(1))["0"].text == "fine"
    assert len(server.requests) == 2


def test_retry_after_is_honoured():
    with serve(lambda body, before: 429 if before == 0 else "fine") as server:
        _replies(_endpoint(server), _requests(1))
    assert server.times[1] - server.times[0] >= 1.0


def test_a_server_that_does_not_answer_in_time_is_asked_again():
    with serve(lambda body, before: (SLOW,) if before == 0 else "fine") as server:
        assert _replies(_endpoint(server, timeout_s=0.5), _requests(1))["0"].text == "fine"


@pytest.mark.parametrize(
    ("fault", "hint"),
    [((GARBAGE,), "answered no chat completion"), ((HALF,), "failed 2 times, last with"), (500, "Error code: 500")],
)
def test_an_endpoint_that_fails_for_good_is_told_and_what_came_before_is_kept(monkeypatch, fault, hint):
    monkeypatch.setattr(module, "MAX_RETRIES", 1)
    got = []
    with serve(lambda body, before: "fine" if before < 2 else fault) as server:
        stream = EndpointEngine(_endpoint(server, concurrency=1)).generate(_requests(4))
        with pytest.raises(InterruptedRunError, match=hint):
            got.extend(completion for batch in stream for completion in batch)
    assert len(server.requests) >= 3


def test_a_refused_request_is_told_in_one_line_without_the_key():
    with serve(lambda body, before: 401) as server, pytest.raises(InputError) as caught:
        _replies(_endpoint(server), _requests(1))
    assert "refused the request" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


def test_the_estimate_is_at_most_what_the_prices_make_of_full_replies():
    prices = {"price_per_million_prompt_tokens": 1.0, "price_per_million_completion_tokens": 10.0}
    endpoint = Endpoint(EndpointConfig(model="m", base_url="http://127.0.0.1:9/v1", **prices))
    estimate = endpoint.estimate([[{"role": "user", "content": "x" * 4000}]] * 100, max_new_tokens=300)
    assert (estimate.prompt_tokens, estimate.completion_tokens) == (100_000, 30_000)
    assert estimate.cost == pytest.approx(0.1 + 0.3)
    assert str(estimate) == "100,000 prompt and 30,000 completion tokens, 0.40 at the prices given"


def test_a_provider_without_a_key_is_refused_at_once(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        Endpoint(EndpointConfig(model="gpt-4o"))


def test_an_endpoint_has_no_strength_to_dial():
    with serve(lambda body, before: "fine") as server, pytest.raises(InputError, match="serves m as it is"):
        _replies(_endpoint(server), _requests(1, strength=0.5))
