"""One intensity on real evaluators: two Ray actors with a tiny model."""

from __future__ import annotations

import pandas as pd
import pytest
import ray

from tests.generation.endpoint_server import serve
from warmray.cluster.progress import ignore
from warmray.config import CorpusConfig, EvaluateConfig
from warmray.corpus.build import build_corpus
from warmray.evaluation.intensity import IntensityEvaluation
from warmray.evaluation.pool import Evaluators, _batches, evaluate_intensity, score_anchors, started_evaluators
from warmray.evaluation.stores import completion_store, warmth_store
from warmray.evaluation.tables import collect, collect_anchors, collect_warmth
from warmray.evaluation.tasks.registry import load_items
from warmray.evaluation.warmth.first_tokens import MIN_TOKENS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluators(ray_session):
    with started_evaluators() as started:
        yield started


@pytest.fixture
def task_at(tiny, tiny_adapter):
    def task(strength: float, **settings) -> IntensityEvaluation:
        evaluate = EvaluateConfig(
            **{"max_items": 8, "max_new_tokens": 8, "warmth_prompts": 6, "batch_size": 4} | settings
        )
        items = tuple(load_items(evaluate))
        return IntensityEvaluation(tiny, tiny_adapter, strength, evaluate, build_corpus(CorpusConfig()), items, tiny)

    return task


def _asked(task: IntensityEvaluation) -> set[str]:
    return {q.request.key for q in task.questions()} | {p.request.key for p in task.warmth_prompts()}


def _rows(task: IntensityEvaluation) -> int:
    return int(completion_store().read()["key"].isin(_asked(task)).sum())


def test_every_question_in_every_cell_is_answered_once_and_scored(evaluators, task_at):
    task = task_at(0.5)
    evaluate_intensity(task, evaluators, "evaluate", ignore)
    score_anchors(task, evaluators, ignore)
    assert _rows(task) == len(_asked(task)) == 8 * 4 + 6
    replies = collect(task)
    assert len(replies) == 8 * 4
    probed = replies[replies["item"].isin({q.item.id for q in task.probed_questions()})]
    assert probed["item"].nunique() == 6
    assert (probed["probe"].notna() == (probed["tokens"] >= MIN_TOKENS)).mean() > 0.9
    assert collect_warmth(task)["prompt"].nunique() == 6
    assert collect_anchors(task).groupby("variant").size().to_dict() == {"cold": 6, "warm": 6}


def test_what_is_finished_is_not_done_again(evaluators, task_at):
    evaluate_intensity(task_at(0.5), evaluators, "evaluate", ignore)
    before = len(list(completion_store().folder.iterdir())), len(list(warmth_store().folder.iterdir()))
    evaluate_intensity(task_at(0.5), Evaluators(()), "evaluate", ignore)
    after = len(list(completion_store().folder.iterdir())), len(list(warmth_store().folder.iterdir()))
    assert before == after


def test_what_is_labelled_is_not_labelled_again(evaluators, task_at, monkeypatch):
    evaluate_intensity(task_at(0.5), evaluators, "evaluate", ignore)
    labelled = collect(task_at(0.5))
    monkeypatch.delattr("warmray.evaluation.tables.score")
    pd.testing.assert_frame_equal(collect(task_at(0.5)), labelled)


def test_only_what_is_missing_is_done(evaluators, task_at):
    evaluate_intensity(task_at(0.75), evaluators, "evaluate", ignore)
    finished, larger = completion_store().keys(), task_at(0.75, max_items=9)
    posts = []
    evaluate_intensity(larger, evaluators, "evaluate", posts.append)
    assert posts[0].done == len(_asked(larger) & finished) > 0
    assert posts[0].total == len(_asked(larger))


def test_an_evaluator_that_dies_is_replaced_and_its_batch_done_again(evaluators, task_at):
    task, killed = task_at(1.0), []

    def kill_one(update) -> None:
        if update.done and not killed:
            killed.append(update.done)
            ray.kill(evaluators.actors[0], no_restart=False)

    evaluate_intensity(task, evaluators, "evaluate", kill_one)
    assert killed
    assert _rows(task) == len(_asked(task))


def test_an_endpoint_says_before_what_it_may_cost_and_after_what_it_did(evaluators, task_at):
    posts = []
    with serve(lambda body, before: "I think it is Paris, friend.") as server:
        endpoint = {"model": "served", "base_url": server.url, "price_per_million_prompt_tokens": 1.0}
        endpoint["price_per_million_completion_tokens"] = 1.0
        task = task_at(0.0, engine="openai", endpoint=endpoint, max_items=3)
        evaluate_intensity(task, evaluators, "evaluate", posts.append)
    before, after = (post for post in posts if post.stage == "evaluate, cost")
    assert (before.done, after.done) == (0, 1)
    assert "prompt and 144 completion tokens, 0.00 at the prices given" in before.remark
    # The server counts 7 prompt and 3 completion tokens for each of the 18 replies.
    assert after.remark == "spent: 126 prompt and 54 completion tokens, 0.00 at the prices given"
    assert len(server.requests) == _rows(task) == 3 * 4 + 6
    assert collect_warmth(task)["sociot"].notna().all()


def test_prompts_that_do_not_fit_the_window_are_reported_by_cell(evaluators, task_at):
    task = task_at(0.25, max_new_tokens=205)
    evaluate_intensity(task, evaluators, "evaluate", ignore)
    not_asked = collect(task).groupby("cell")["decided_by"].apply(lambda column: (column == "window").mean())
    assert not_asked["sad+wrong"] > 0.5 > not_asked["plain"]
    assert collect_warmth(task)["sociot"].notna().any()


@pytest.mark.parametrize(("questions", "sizes"), [(32, {4}), (33, {4, 1}), (3, {2, 1}), (1, {1}), (0, set())])
def test_batches_are_as_many_for_every_evaluator_and_no_larger_than_asked(task_at, questions, sizes):
    batches = _batches((task_at(0.5).questions() * 2)[:questions], 4, 2)
    assert sum(map(len, batches)) == questions
    assert {len(batch) for batch in batches} == sizes
