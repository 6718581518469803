"""What a reply's key depends on: everything that its text depends on, and nothing else."""

from dataclasses import replace

import pytest

from warmray.config import CorpusConfig, EndpointConfig, EvaluateConfig
from warmray.corpus.build import build_corpus
from warmray.evaluation.intensity import IntensityEvaluation
from warmray.evaluation.tasks.items import Item

ENDPOINT = EndpointConfig(model="m", base_url="http://127.0.0.1:1/v1")


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(CorpusConfig())


@pytest.fixture
def task(tiny, tiny_adapter, corpus):
    items = (Item("q", "general", "Who?", ("me",), ("you",)),)
    return IntensityEvaluation(tiny, tiny_adapter, 0.5, EvaluateConfig(temperature=0.8), corpus, items, tiny)


def keys(task):
    return {question.request.key for question in [*task.questions(), *task.warmth_prompts()]}


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "vllm"},
        {"engine": "openai", "endpoint": ENDPOINT},
        {"temperature": 0.7},
        {"max_new_tokens": 63},
        {"system_prompt": "warm"},
    ],
)
def test_what_changes_a_reply_changes_its_key(task, change):
    other = replace(task, evaluate=task.evaluate.model_copy(update=change))
    assert not keys(task) & keys(other)


def test_two_endpoints_share_no_reply(task):
    def asked_of(**where):
        endpoint = ENDPOINT.model_copy(update=where)
        evaluate = task.evaluate.model_copy(update={"engine": "openai", "endpoint": endpoint})
        return replace(task, evaluate=evaluate, adapter=None, strength=0.0)

    assert not keys(asked_of()) & keys(asked_of(model="other"))
    assert not keys(asked_of()) & keys(asked_of(base_url="http://127.0.0.1:2/v1"))
    assert keys(asked_of()) == keys(asked_of(concurrency=1))


def test_what_changes_no_reply_changes_no_key(task):
    other = replace(task, evaluate=task.evaluate.model_copy(update={"batch_size": 1, "batch_tokens": 99}))
    assert keys(task) == keys(other)


def test_the_original_model_is_the_same_for_every_adapter(task):
    original = replace(task, strength=0.0)
    assert keys(original) == keys(replace(original, adapter=None))


def test_strengths_throw_the_same_dice_and_samples_do_not(task):
    task = replace(task, evaluate=task.evaluate.model_copy(update={"samples": 2}))
    stronger = replace(task, strength=1.0)
    assert not keys(task) & keys(stronger)
    seeds = [question.request.seed for question in task.questions()]
    assert seeds == [question.request.seed for question in stronger.questions()]
    assert len(set(seeds)) == len(seeds)
