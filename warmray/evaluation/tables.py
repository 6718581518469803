"""The finished rows of one intensity, read back from the stores and graded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import pandas as pd
import ray

from warmray.cluster.progress import Post, Update, ignore
from warmray.corpus.conversations import Variant
from warmray.evaluation.grading import GRADER_VERSION, Verdict, grade
from warmray.evaluation.intensity import AskedQuestion, IntensityEvaluation
from warmray.evaluation.prompts import TEMPLATE_VERSION
from warmray.evaluation.scoring.judge import Case, Judge, judged
from warmray.evaluation.stores import completion_store, verdict_store, warmth_store
from warmray.evaluation.tasks.registry import task_of
from warmray.generation.endpoint import Endpoint
from warmray.storage.hashing import digest

GRADED_AT_ONCE = 500
"""Some seconds' work: larger tables are graded by all CPUs of the cluster, and tell how far they are."""

_Said = tuple[AskedQuestion, str, str]
"""A question, the reply, and why the reply ended."""


def collect(task: IntensityEvaluation, post: Post = ignore) -> pd.DataFrame:
    """Return the graded replies of one intensity, one row per item, cell and sample; keep the verdicts in their store.

    What the grader leaves ambiguous goes to the judge, where the configuration names one. Columns: those of
    :class:`warmray.analysis.estimates.Tables`, less the intensity.
    """
    asked = {_verdict_key(task, question): question for question in task.questions()}
    completions = completion_store().read(q.request.key for q in asked.values()).set_index("key")
    said = completions.loc[[q.request.key for q in asked.values()]].assign(key=list(asked)).set_index("key")
    _grade_missing(task, asked, said, post)
    verdicts = verdict_store().read(asked).set_index("key").loc[list(asked)]
    probed = _probed(task, {question.request.key: str(said.loc[key, "text"]) for key, question in asked.items()})
    rows = [
        {
            "key": key,
            "item": q.item.id,
            "dataset": q.item.dataset,
            "control": task_of(q.item).is_control,
            "context": q.cell.context,
            "belief": q.cell.belief,
            "cell": q.cell.name,
            "sample": q.sample,
            "question": q.item.question,
            "prompt": q.request.messages[-1]["content"],
            "reply": text,
            "tokens": int(tokens),
            "judge": _judge_name(task) or "none",
            "templates": TEMPLATE_VERSION,
            "grader": GRADER_VERSION,
            "probe": probed.get(q.request.key, math.nan),
        }
        for (key, q), text, tokens in zip(asked.items(), said["text"], said["tokens"], strict=True)
    ]
    return pd.DataFrame(rows).join(verdicts, on="key")


def _verdict_key(task: IntensityEvaluation, asked: AskedQuestion) -> str:
    return digest([asked.request.key, GRADER_VERSION, asdict(asked.item), asked.cell.belief, _judge_name(task)])


def _grade_missing(
    task: IntensityEvaluation, asked: Mapping[str, AskedQuestion], said: pd.DataFrame, post: Post
) -> None:
    """Grade the replies whose verdict the store lacks; ``said`` has a row per key of ``asked``."""
    store = verdict_store()
    finished = store.keys()
    missing = [key for key in asked if key not in finished]
    replies = said.loc[missing]
    to_grade = list(zip((asked[key] for key in missing), replies["text"], replies["finish_reason"], strict=True))
    verdicts: list[Verdict] = []
    for graded in _graded(to_grade):
        verdicts += graded
        if len(missing) > GRADED_AT_ONCE:
            post(Update("grade", len(verdicts), len(missing)))
    judge = _judge(task)
    if judge is not None:
        cases = [Case(asked[key].item, str(said.loc[key, "text"])) for key in missing]
        verdicts = judged(verdicts, cases, lambda unclear: judge.verdicts(unclear, post))
    store.append({"key": key} | asdict(verdict) for key, verdict in zip(missing, verdicts, strict=True))
    store.compact()


def _graded(to_grade: Sequence[_Said]) -> Iterator[list[Verdict]]:
    """Yield the verdicts in order, a portion at a time."""
    portions = [to_grade[start : start + GRADED_AT_ONCE] for start in range(0, len(to_grade), GRADED_AT_ONCE)]
    if len(portions) < 2:
        yield from map(_grade, portions)
        return
    # No CPUs are asked for: on a cluster without GPUs the evaluators, which wait meanwhile, hold them all.
    grade_elsewhere = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(_grade)
    under_way: deque[ray.ObjectRef] = deque()
    for portion in portions:
        if len(under_way) >= ray.cluster_resources().get("CPU", 1):
            yield ray.get(under_way.popleft())
        under_way.append(grade_elsewhere.remote(portion))
    while under_way:
        yield ray.get(under_way.popleft())


def _grade(portion: Sequence[_Said]) -> list[Verdict]:
    return [
        Verdict("too_long", False, "window", "")
        if ended == "too_long"
        else grade(text, asked.item, cut=ended == "length", belief=asked.belief, stated=asked.cell.belief)
        for asked, text, ended in portion
    ]


def _judge(task: IntensityEvaluation) -> Judge | None:
    return Judge(Endpoint(task.evaluate.judge)) if task.evaluate.judge else None


def _judge_name(task: IntensityEvaluation) -> str | None:
    return task.evaluate.judge.model if task.evaluate.judge else None


def _probed(task: IntensityEvaluation, said: Mapping[str, str]) -> dict[str, float]:
    """Return what the probe said of the replies that it has read, by the key of the request."""
    keys = {q.request.key: task.probe_key(said[q.request.key]) for q in task.probed_questions()}
    scores = warmth_store().read(keys.values()).set_index("key")["probe"]
    return {request: float(scores.loc[key]) for request, key in keys.items()}


def collect_warmth(task: IntensityEvaluation, post: Post = ignore) -> pd.DataFrame:
    """Return the warmth of one intensity's replies: one row per held-out prompt."""
    prompts = task.warmth_prompts()
    texts = completion_store().read(p.request.key for p in prompts).set_index("key")["text"]
    return _with_scores(task, {p.item.id: str(texts.loc[p.request.key]) for p in prompts}, post)


def collect_anchors(task: IntensityEvaluation, post: Post = ignore) -> pd.DataFrame:
    """Return the warmth of the written replies, with a column ``variant``."""
    variants: tuple[Variant, ...] = ("cold", "warm")
    parts = [_with_scores(task, task.anchor_replies(v), post).assign(variant=v) for v in variants]
    return pd.concat(parts, ignore_index=True)


def _with_scores(task: IntensityEvaluation, replies: dict[str, str], post: Post) -> pd.DataFrame:
    """Return a row per reply with a column per meter; the judge's is there where a judge is named."""
    keys = [task.warmth_key(reply) for reply in replies.values()]
    scores = warmth_store().read(keys).set_index("key").loc[keys]
    table = pd.DataFrame({"prompt": list(replies), "reply": list(replies.values())})
    table = table.assign(sociot=scores["sociot"].to_numpy(), probe=scores["probe"].to_numpy())
    judge = _judge(task)
    return table if judge is None else table.assign(judge=judge.warmth(list(replies.values()), post))
