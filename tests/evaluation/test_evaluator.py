"""Which models an evaluator loads, counted on a tiny one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import warmray.evaluation.evaluator as room
from jobs.bench.random_model import make_random_adapter
from warmray.config import CorpusConfig, EvaluateConfig
from warmray.corpus.build import build_corpus
from warmray.evaluation.evaluator import Evaluator
from warmray.evaluation.intensity import IntensityEvaluation
from warmray.evaluation.stores import completion_store, warmth_store
from warmray.evaluation.tasks.items import Item

REPLY = "That is a very good question, and I am glad that you ask it."


@pytest.fixture
def loaded(monkeypatch) -> list[Path]:
    """The folders of all models that were loaded."""
    folders: list[Path] = []
    load = room.load_model

    def load_and_note(base, device=None):
        folders.append(base.folder)
        return load(base, device)

    monkeypatch.setattr(room, "load_model", load_and_note)
    return folders


@pytest.fixture
def task(home, tiny, tiny_adapter) -> IntensityEvaluation:
    items = (Item("q", "general", "Who?", ("me",), ("you",)),)
    evaluate = EvaluateConfig(max_new_tokens=4)
    return IntensityEvaluation(tiny, tiny_adapter, 0.5, evaluate, build_corpus(CorpusConfig()), items, tiny)


def test_scoring_does_not_load_the_evaluated_model(task, tiny, loaded):
    large = replace(tiny, folder=Path("/no/such/model"), digest="large")
    evaluator, task = Evaluator(), replace(task, base=large)
    evaluator.score(task, [REPLY])
    evaluator.probe(task, [REPLY])
    assert loaded == [tiny.folder]
    assert warmth_store().read()["probe"].notna().all()


def test_an_evaluated_model_that_is_also_the_scorer_is_loaded_once(task, tiny, loaded):
    evaluator = Evaluator()
    evaluator.generate(task, task.questions())
    evaluator.score(task, [REPLY])
    assert loaded == [tiny.folder]


def test_another_adapter_loads_no_model_again_and_leaves_no_trace_of_the_first(
    task, tiny, tiny_adapter, loaded, tmp_path, monkeypatch
):
    def replies(evaluator: Evaluator, *tasks: IntensityEvaluation) -> list[str]:
        for one in tasks:
            evaluator.generate(one, one.questions())
        keys = [question.request.key for question in tasks[-1].questions()]
        return completion_store().read(keys).sort_values("key")["text"].tolist()

    second = make_random_adapter(tiny, tmp_path / "second", rank=2, scale=0.3)
    of_second = replace(task, adapter=second)
    after_first = replies(Evaluator(), task, of_second)
    assert loaded == [tiny.folder]
    monkeypatch.setenv("WARMRAY_HOME", str(tmp_path / "fresh"))
    assert replies(Evaluator(), of_second) == after_first
    assert second.digest != tiny_adapter.digest
