"""The finished rows of one intensity, read back from the stores and labelled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from warmray.cluster.progress import Post, ignore
from warmray.corpus.conversations import Variant
from warmray.evaluation.intensity import AskedQuestion, IntensityEvaluation
from warmray.evaluation.prompts import TEMPLATE_VERSION
from warmray.evaluation.scoring.judge import Judge
from warmray.evaluation.scoring.score import SCORING_VERSION, is_right, score
from warmray.evaluation.scoring.verdict import TOO_LONG, Reply, Verdict
from warmray.evaluation.stores import completion_store, verdict_store, warmth_store
from warmray.evaluation.tasks.registry import task_of
from warmray.storage.hashing import DIGEST_LENGTH, digest


def collect(task: IntensityEvaluation, post: Post = ignore) -> pd.DataFrame:
    """Return the labelled replies of one intensity, one row per item, cell and sample, and keep their verdicts.

    Replies that no scorer can label go to the judge, where the configuration names one; the judge also reads a random
    share of the others. Columns: those of :class:`warmray.analysis.estimates.Tables`, less the intensity.
    """
    judge = Judge(task.evaluate.judge) if task.evaluate.judge else None
    asked = {_verdict_key(question, judge): question for question in task.questions()}
    completions = completion_store().read(q.request.key for q in asked.values()).set_index("key")
    said = completions.loc[[q.request.key for q in asked.values()]].assign(key=list(asked)).set_index("key")
    replies = {
        key: Reply(q.item, str(said.loc[key, "text"]), q.cell.belief, said.loc[key, "finish_reason"] == "length")
        for key, q in asked.items()
    }
    too_long = set(said.index[said["finish_reason"] == "too_long"])
    _label_missing(task, replies, too_long, judge, post)
    verdicts = verdict_store().read(asked).set_index("key").loc[list(asked)]
    probed = _probed(task, {question.request.key: replies[key].text for key, question in asked.items()})
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
            "reply": replies[key].text,
            "tokens": int(said.loc[key, "tokens"]),
            "was_cut": replies[key].was_cut,
            "judge": judge.name if judge else "none",
            "templates": TEMPLATE_VERSION,
            "scoring": SCORING_VERSION,
            "probe": probed.get(q.request.key, math.nan),
        }
        for key, q in asked.items()
    ]
    return pd.DataFrame(rows).join(verdicts, on="key")


def _verdict_key(asked: AskedQuestion, judge: Judge | None) -> str:
    facts = [asked.request.key, SCORING_VERSION, asdict(asked.item), asked.cell.belief]
    if judge is not None:
        facts += [judge.digest, judge.config.short_answers, judge.config.audit_share]
    return digest(facts)


def _label_missing(
    task: IntensityEvaluation, replies: Mapping[str, Reply], too_long: set[str], judge: Judge | None, post: Post
) -> None:
    """Label the replies whose verdict the store lacks."""
    store = verdict_store()
    finished = store.keys()
    missing = {key: reply for key, reply in replies.items() if key not in finished}
    verdicts = {key: TOO_LONG if key in too_long else score(reply) for key, reply in missing.items()}
    judged: dict[str, Verdict] = {}
    if judge is not None:
        # The judge labels what matching cannot, and a random share of the rest to see how far the two agree.
        unclear = [key for key, verdict in verdicts.items() if verdict.label == "undecided"]
        if judge.config.short_answers:
            unclear += [key for key, verdict in verdicts.items() if verdict.decided_by == "match"]
        audited = [key for key in missing if key not in unclear and _is_audited(key, verdicts[key], judge)]
        to_read = [*unclear, *audited]
        judged = dict(zip(to_read, judge.verdicts([missing[key] for key in to_read], post), strict=True))
        verdicts |= {key: judged[key] for key in unclear}
    store.append(
        asdict(verdict)
        | {
            "key": key,
            "right": is_right(missing[key], verdict),
            "judge_label": judged[key].label if key in judged else None,
        }
        for key, verdict in verdicts.items()
    )
    store.compact()


def _is_audited(key: str, verdict: Verdict, judge: Judge) -> bool:
    drawn = int(digest([key, "audit"]), 16) / 16**DIGEST_LENGTH  # uniform over [0, 1), the same in every run
    return verdict.decided_by == "match" and drawn < judge.config.audit_share


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
    if task.evaluate.judge is None:
        return table
    return table.assign(judge=Judge(task.evaluate.judge).warmth(list(replies.values()), post))
