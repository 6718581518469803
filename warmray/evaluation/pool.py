"""Evaluates one intensity on all evaluators of the cluster: what the stores lack is made, nothing else is."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray.exceptions import RayActorError

from warmray.cluster.progress import Post, Update
from warmray.errors import InterruptedRunError
from warmray.evaluation.intensity import AskedQuestion, Finished, IntensityEvaluation
from warmray.evaluation.stores import completion_store, warmth_store

if TYPE_CHECKING:
    from warmray.generation.endpoint import Spending

MAX_CPU_EVALUATORS = 8
"""Each holds a model in memory, which a machine with many cores may not have."""
MAX_EVALUATOR_FAILURES = 3
"""How often an evaluator that died is started again, and how often a batch that it died with is given out again."""
REPLIES_AT_ONCE = 10
"""Replies scored per call: few, so that all evaluators end at about the same time."""


@dataclass
class _Batch:
    """Rows that one evaluator works off at a time, and how often they lost theirs."""

    rows: Sequence[Any]
    losses: int = 0

    def lost_again(self, error: RayActorError) -> _Batch:
        """Count a loss.

        Raises:
            InterruptedRunError: it was one too many.
        """
        self.losses += 1
        if self.losses > MAX_EVALUATOR_FAILURES:
            raise InterruptedRunError(
                f"a batch of {len(self.rows)} lost its evaluator {self.losses} times: is memory short? Finished rows "
                "are kept; try a smaller evaluate.batch_tokens"
            ) from error
        return self


@dataclass(frozen=True)
class Evaluators:
    """Handles of the :class:`~warmray.evaluation.evaluator.Evaluator` actors of a run; can be sent to any process."""

    actors: tuple[Any, ...]

    def map(
        self, method: Literal["generate", "score", "probe"], task: IntensityEvaluation, batches: Sequence[Sequence[Any]]
    ) -> Iterator[Finished]:
        """Give the next batch to whichever evaluator is free, and that of one that died to another.

        An evaluator that Ray starts again, here or on another node, takes part again.

        Raises:
            InterruptedRunError: a batch was lost with its evaluator too often, or no evaluator is left.
        """
        shared = ray.put(task)
        waiting = deque(_Batch(rows) for rows in batches)
        idle = deque(self.actors)
        under_way: dict[Any, tuple[Any, _Batch | None]] = {}  # no batch: an evaluator that died is waited for
        lost: RayActorError | None = None
        while waiting or any(batch for _, batch in under_way.values()):
            while waiting and idle:
                actor, batch = idle.popleft(), waiting.popleft()
                under_way[getattr(actor, method).remote(shared, batch.rows)] = (actor, batch)
            if not under_way:
                raise _all_lost(lost)
            done = ray.wait(list(under_way), num_returns=1)[0][0]
            actor, given = under_way.pop(done)
            try:
                finished = ray.get(done)
                idle.append(actor)
                if given:
                    yield finished
            except RayActorError as error:
                lost = error
                if given:
                    waiting.appendleft(given.lost_again(error))
                    under_way[actor.ready.remote()] = (actor, None)


def _all_lost(last: RayActorError | None) -> InterruptedRunError:
    lines = str(last).strip().splitlines()
    return InterruptedRunError(
        f"all evaluators are lost, the last one with: {lines[-1].strip() if lines else 'no word'} (finished rows are "
        "kept; the same command goes on from them)"
    )


@contextlib.contextmanager
def started_evaluators(engine: str = "transformers") -> Iterator[Evaluators]:
    """Run one evaluator per GPU of the cluster, or per CPU where there is none, until the block ends.

    An endpoint has a single one, which keeps count of all requests under way.
    """
    from warmray.evaluation.evaluator import Evaluator

    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    actor = ray.remote(Evaluator).options(
        num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0, max_restarts=MAX_EVALUATOR_FAILURES
    )
    number = 1 if engine == "openai" else gpus or min(cpus, MAX_CPU_EVALUATORS)
    actors = tuple(actor.remote() for _ in range(number))
    try:
        yield Evaluators(actors)
    finally:
        for started in actors:  # what Ray Tune was given of them would keep them, and their CPUs
            ray.kill(started)


def evaluate_intensity(task: IntensityEvaluation, evaluators: Evaluators, stage: str, post: Post) -> None:
    """Generate and score what the stores lack for one intensity.

    Raises:
        ray.exceptions.RayError: an evaluator failed; its cause may be a WarmrayError. Finished batches are kept.
    """
    answer(task, evaluators, stage, post)
    score_warmth(task, evaluators, _said(task.warmth_prompts()), f"{stage}, warmth", post)
    probe_cells(task, evaluators, f"{stage}, warmth of the cells", post)


def answer(task: IntensityEvaluation, evaluators: Evaluators, stage: str, post: Post) -> None:
    """Generate the replies that the store lacks for one intensity."""
    asked = {question.request.key: question for question in [*task.questions(), *task.warmth_prompts()]}
    finished = completion_store().keys()
    missing = [question for key, question in asked.items() if key not in finished]
    if missing and task.evaluate.engine == "openai":
        post(Update(f"{stage}, cost", 0, 1, remark=_estimate(task, missing)))
    work = evaluators.map("generate", task, _batches(missing, task.evaluate.batch_size, len(evaluators.actors)))
    spent = _work_off(work, stage, len(asked) - len(missing), len(asked), post)
    if spent:
        post(Update(f"{stage}, cost", 1, 1, remark=f"spent: {spent}"))
    completion_store().compact()


def _estimate(task: IntensityEvaluation, missing: Sequence[AskedQuestion]) -> str:
    """Say what asking an endpoint will cost at most, before anything is asked."""
    from warmray.generation.endpoint import Endpoint

    assert task.evaluate.endpoint is not None
    chats = [question.request.messages for question in missing]
    return f"at most {Endpoint(task.evaluate.endpoint).estimate(chats, task.evaluate.max_new_tokens)}"


def score_anchors(task: IntensityEvaluation, evaluators: Evaluators, post: Post) -> None:
    """Score the written warm and cold replies of the held-out prompts, which anchor the warmth scale."""
    replies = [text for variant in ("cold", "warm") for text in task.anchor_replies(variant).values()]
    score_warmth(task, evaluators, replies, "warmth anchors", post)


def score_warmth(
    task: IntensityEvaluation, evaluators: Evaluators, replies: Sequence[str], stage: str, post: Post
) -> None:
    """Score replies with both meters, where the store has no score yet."""
    _measure("score", task.warmth_key, replies, task, evaluators, stage, post)


def probe_cells(task: IntensityEvaluation, evaluators: Evaluators, stage: str, post: Post) -> None:
    """Probe the replies by which the warmth of every cell is told, where the store has no score yet."""
    _measure("probe", task.probe_key, _said(task.probed_questions()), task, evaluators, stage, post)


def _said(questions: Sequence[AskedQuestion]) -> list[str]:
    return completion_store().read(question.request.key for question in questions)["text"].tolist()


def _measure(
    method: Literal["score", "probe"],
    key_of: Callable[[str], str],
    replies: Sequence[str],
    task: IntensityEvaluation,
    evaluators: Evaluators,
    stage: str,
    post: Post,
) -> None:
    finished = warmth_store().keys()
    missing = [reply for reply in dict.fromkeys(replies) if key_of(reply) not in finished]
    batches = [missing[start : start + REPLIES_AT_ONCE] for start in range(0, len(missing), REPLIES_AT_ONCE)]
    _work_off(evaluators.map(method, task, batches), stage, 0, len(missing), post)


def _work_off(work: Iterator[Finished], stage: str, done: int, total: int, post: Post) -> Spending | None:
    """Let the evaluators work until everything is done, and tell how far they are; return what endpoints cost."""
    if done == total:
        return None
    tokens = 0
    spent: list[Spending] = []
    post(Update(stage, done, total))
    for finished in work:
        done += finished.rows
        tokens += finished.tokens
        spent += [finished.spent] if finished.spent else []
        post(Update(stage, done, total, tokens))
    return reduce(add, spent) if spent else None


def _batches(questions: Sequence[AskedQuestion], batch_size: int, evaluators: int) -> list[list[AskedQuestion]]:
    """Cut batches of similar prompt length, as many for every evaluator; the longest come first, the last are short."""
    if not questions:
        return []
    each = math.ceil(len(questions) / (batch_size * evaluators))
    size = math.ceil(len(questions) / (each * evaluators))
    ordered = sorted(
        questions, key=lambda q: (-sum(len(message["content"]) for message in q.request.messages), q.request.key)
    )
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
