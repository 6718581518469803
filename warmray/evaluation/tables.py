"""The finished rows of one intensity, read back from the stores and graded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from warmray.corpus.conversations import Variant
from warmray.evaluation.grading import GRADER_VERSION, Verdict, grade
from warmray.evaluation.judge import Case, Judge, judged
from warmray.evaluation.prompts import TEMPLATE_VERSION
from warmray.evaluation.stores import VERDICTS, completion_store, verdict_store, warmth_store
from warmray.evaluation.task import EvaluationTask, Question
from warmray.evaluation.tasks import task_of
from warmray.generation.endpoint import Endpoint
from warmray.hashing import digest
from warmray.progress import Post, ignore


def collect(task: EvaluationTask, post: Post = ignore) -> pd.DataFrame:
    """Return the graded replies of one intensity, one row per item, cell and sample; keep the verdicts in their store.

    What the grader leaves ambiguous goes to the judge, where the configuration names one. Columns: those of
    :class:`warmray.analysis.estimates.Tables`, less the intensity.
    """
    questions = task.questions()
    completions = completion_store().read(q.request.key for q in questions).set_index("key")
    said = completions.loc[[q.request.key for q in questions]]
    verdicts = _verdicts(task, questions, said, post)
    probed = _probed(task, said)
    rows = [
        {
            "key": digest([q.request.key, GRADER_VERSION, asdict(q.item), q.belief, _judge_name(task)]),
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
            **asdict(verdict),
        }
        for q, verdict, text, tokens in zip(questions, verdicts, said["text"], said["tokens"], strict=True)
    ]
    store = verdict_store()
    finished = store.keys()
    store.append({name: row[name] for name in VERDICTS.names} for row in rows if row["key"] not in finished)
    store.compact()
    return pd.DataFrame(rows)


def _verdicts(task: EvaluationTask, questions: Sequence[Question], said: pd.DataFrame, post: Post) -> Sequence[Verdict]:
    verdicts = [
        Verdict("too_long", False, "window", "")
        if reason == "too_long"
        else grade(text, q.item, cut=reason == "length", belief=q.belief)
        for q, text, reason in zip(questions, said["text"], said["finish_reason"], strict=True)
    ]
    judge = _judge(task)
    if judge is None:
        return verdicts
    cases = [Case(q.item, text) for q, text in zip(questions, said["text"], strict=True)]
    return judged(verdicts, cases, lambda unclear: judge.verdicts(unclear, post))


def _judge(task: EvaluationTask) -> Judge | None:
    return Judge(Endpoint(task.evaluate.judge)) if task.evaluate.judge else None


def _judge_name(task: EvaluationTask) -> str | None:
    return task.evaluate.judge.model if task.evaluate.judge else None


def _probed(task: EvaluationTask, said: pd.DataFrame) -> dict[str, float]:
    """Return what the probe said of the replies that it has read, by the key of the question."""
    by_question = {q.request.key: task.probe_key(str(said.loc[q.request.key, "text"])) for q in task.probed_questions()}
    scores = warmth_store().read(by_question.values()).set_index("key")["probe"]
    return {question: float(scores.loc[key]) for question, key in by_question.items()}


def collect_warmth(task: EvaluationTask, post: Post = ignore) -> pd.DataFrame:
    """Return the warmth of one intensity's replies: one row per held-out prompt."""
    prompts = task.warmth_prompts()
    texts = completion_store().read(p.request.key for p in prompts).set_index("key")["text"]
    return _with_scores(task, {p.item.id: str(texts.loc[p.request.key]) for p in prompts}, post)


def collect_anchors(task: EvaluationTask, post: Post = ignore) -> pd.DataFrame:
    """Return the warmth of the written replies, with a column ``variant``."""
    variants: tuple[Variant, ...] = ("cold", "warm")
    parts = [_with_scores(task, task.anchor_replies(v), post).assign(variant=v) for v in variants]
    return pd.concat(parts, ignore_index=True)


def _with_scores(task: EvaluationTask, replies: dict[str, str], post: Post) -> pd.DataFrame:
    """Return a row per reply with a column per meter; the judge's is there where a judge is named."""
    keys = [task.warmth_key(reply) for reply in replies.values()]
    scores = warmth_store().read(keys).set_index("key").loc[keys]
    table = pd.DataFrame({"prompt": list(replies), "reply": list(replies.values())})
    table = table.assign(sociot=scores["sociot"].to_numpy(), probe=scores["probe"].to_numpy())
    judge = _judge(task)
    return table if judge is None else table.assign(judge=judge.warmth(list(replies.values()), post))
