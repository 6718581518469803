"""Evaluates one intensity on all evaluators of the cluster: what the stores lack is made, nothing else is."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator, Sequence
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
        under_way: dict[Any, tuple[Any, _Batch | None]] = {}  # no batch: an evaluator that is being started again
        last_error: RayActorError | None = None
        while waiting or any(batch for _, batch in under_way.values()):
            while waiting and idle:
                actor, batch = idle.popleft(), waiting.popleft()
                under_way[getattr(actor, method).remote(shared, batch.rows)] = (actor, batch)
            if not under_way:
                reason = str(last_error).strip().splitlines()
                raise InterruptedRunError(
                    f"all evaluators died, the last one with: {reason[-1].strip() if reason else 'no message'} "
                    "(finished rows are kept; the same command continues from them)"
                )
            done = ray.wait(list(under_way), num_returns=1)[0][0]
            actor, given = under_way.pop(done)
            try:
                finished = ray.get(done)
                idle.append(actor)
                if given:
                    yield finished
            except RayActorError as error:
                last_error = error
                if given is None:  # it did not come back
                    continue
                given.losses += 1
                if given.losses > MAX_EVALUATOR_FAILURES:
                    raise InterruptedRunError(
                        f"a batch of {len(given.rows)} lost its evaluator {given.losses} times: is memory short? "
                        "Finished rows are kept; try a smaller evaluate.batch_tokens"
                    ) from error
                waiting.appendleft(given)
                under_way[actor.ready.remote()] = (actor, None)


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
        for started in actors:  # Ray Tune keeps references to them, which would keep their CPUs
            ray.kill(started)


def evaluate_intensity(task: IntensityEvaluation, evaluators: Evaluators, stage: str, post: Post) -> None:
    """Generate and score what the stores lack for one intensity.

    Raises:
        ray.exceptions.RayError: an evaluator failed; its cause may be a WarmrayError. Finished batches are kept.
    """
    answer(task, evaluators, stage, post)
    _measure("score", task, _replies_to(task.warmth_prompts()), evaluators, f"{stage}, warmth", post)
    _measure("probe", task, _replies_to(task.probed_questions()), evaluators, f"{stage}, warmth of the cells", post)


def answer(task: IntensityEvaluation, evaluators: Evaluators, stage: str, post: Post) -> None:
    """Generate the replies that the store lacks for one intensity."""
    asked = {question.request.key: question for question in [*task.questions(), *task.warmth_prompts()]}
    finished = completion_store().keys()
    missing = [question for key, question in asked.items() if key not in finished]

    # An endpoint costs money: say how much at most before anything is asked.
    if missing and task.evaluate.endpoint and task.evaluate.engine == "openai":
        from warmray.generation.endpoint import Endpoint

        chats = [question.request.messages for question in missing]
        most = Endpoint(task.evaluate.endpoint).estimate(chats, task.evaluate.max_new_tokens)
        post(Update(f"{stage}, cost", 0, 1, remark=f"at most {most}"))

    work = evaluators.map("generate", task, _batches(missing, task.evaluate.batch_size, len(evaluators.actors)))
    spent = _work_off(work, stage, len(asked) - len(missing), len(asked), post)
    if spent:
        post(Update(f"{stage}, cost", 1, 1, remark=f"spent: {spent}"))
    completion_store().compact()


def score_anchors(task: IntensityEvaluation, evaluators: Evaluators, post: Post) -> None:
    """Score the written warm and cold replies of the held-out prompts, which anchor the warmth scale."""
    replies = [text for variant in ("cold", "warm") for text in task.anchor_replies(variant).values()]
    _measure("score", task, replies, evaluators, "warmth anchors", post)


def _replies_to(questions: Sequence[AskedQuestion]) -> list[str]:
    return completion_store().read(question.request.key for question in questions)["text"].tolist()


def _measure(
    method: Literal["score", "probe"],
    task: IntensityEvaluation,
    replies: Sequence[str],
    evaluators: Evaluators,
    stage: str,
    post: Post,
) -> None:
    """Measure the warmth of replies with both meters or with the probe alone, where the store has no score yet."""
    key_of = {"score": task.warmth_key, "probe": task.probe_key}[method]
    finished = warmth_store().keys()
    missing = [reply for reply in dict.fromkeys(replies) if key_of(reply) not in finished]
    batches = [missing[start : start + REPLIES_AT_ONCE] for start in range(0, len(missing), REPLIES_AT_ONCE)]
    _work_off(evaluators.map(method, task, batches), stage, 0, len(missing), post)


def _work_off(work: Iterator[Finished], stage: str, done: int, total: int, post: Post) -> Spending | None:
    """Let the evaluators work until everything is done, and post how far they are; return what endpoints cost."""
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
