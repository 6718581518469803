"""The finished rows of one intensity, read back from the stores and graded."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from warmray.evaluation.grading import GRADER_VERSION, grade
from warmray.evaluation.stores import VERDICTS, completion_store, verdict_store, warmth_store
from warmray.evaluation.task import EvaluationTask
from warmray.hashing import digest


def collect(task: EvaluationTask) -> pd.DataFrame:
    """Return the graded replies of one intensity, one row per item, cell and sample; keep the verdicts in their store.

    Columns: those of :class:`warmray.analysis.estimates.Tables`, less the intensity.
    """
    questions = task.questions()
    completions = completion_store().read(q.request.key for q in questions).set_index("key")
    rows = []
    for q in questions:
        completion = completions.loc[q.request.key]
        verdict = grade(
            completion["text"],
            q.item,
            cut=completion["finish_reason"] == "length",
            belief=q.belief,
        )
        rows.append(
            {
                "key": digest([q.request.key, GRADER_VERSION, asdict(q.item), q.belief]),
                "item": q.item.id,
                "dataset": q.item.dataset,
                "context": q.cell.context,
                "belief": q.cell.belief,
                "cell": q.cell.name,
                "sample": q.sample,
                "question": q.item.question,
                "prompt": q.request.messages[-1]["content"],
                "reply": completion["text"],
                "tokens": int(completion["tokens"]),
                **asdict(verdict),
            }
        )
    store = verdict_store()
    finished = store.keys()
    store.append({name: row[name] for name in VERDICTS.names} for row in rows if row["key"] not in finished)
    return pd.DataFrame(rows)


def collect_warmth(task: EvaluationTask) -> pd.DataFrame:
    """Return the warmth of one intensity's replies: one row per held-out prompt."""
    prompts = task.warmth_prompts()
    texts = completion_store().read(p.request.key for p in prompts).set_index("key")["text"]
    return _with_scores(task, {p.item.id: str(texts.loc[p.request.key]) for p in prompts})


def collect_anchors(task: EvaluationTask) -> pd.DataFrame:
    """Return the warmth of the written replies, with a column ``variant``."""
    parts = [_with_scores(task, task.anchor_replies(variant)).assign(variant=variant) for variant in ("cold", "warm")]
    return pd.concat(parts, ignore_index=True)


def _with_scores(task: EvaluationTask, replies: dict[str, str]) -> pd.DataFrame:
    keys = {prompt_id: task.warmth_key(reply) for prompt_id, reply in replies.items()}
    scores = warmth_store().read(keys.values()).set_index("key")
    return pd.DataFrame(
        [
            {
                "prompt": prompt_id,
                "reply": replies[prompt_id],
                "sociot": scores.loc[key, "sociot"],
                "probe": scores.loc[key, "probe"],
            }
            for prompt_id, key in keys.items()
        ]
    )
