"""Evaluates one intensity: what is missing in the stores is generated and scored, nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import pandas as pd
import pyarrow as pa

from warmray.config import EvaluateConfig
from warmray.corpus.build import Corpus
from warmray.corpus.conversations import VARIANTS, Variant
from warmray.evaluation.grading import GRADER_VERSION, grade
from warmray.evaluation.items import Item
from warmray.evaluation.probe import LinearProbe
from warmray.evaluation.prompts import TEMPLATE_VERSION, Cell, cells_of, prompt
from warmray.evaluation.sociot import SocioTMeter
from warmray.generation.engine import Request
from warmray.generation.store import ParquetStore
from warmray.generation.transformers_engine import TransformersEngine
from warmray.hashing import digest
from warmray.home import home
from warmray.models.adapters import AdaptedModel, Adapter
from warmray.models.loading import BaseCheckpoint, best_device, load_model, load_tokenizer
from warmray.progress import Post, Update

ENGINE_VERSION = 1
METER_VERSION = 2
"""Parts of the keys: raise them when generation or a meter changes what comes out."""

COMPLETIONS = pa.schema(
    [("key", pa.string()), ("text", pa.string()), ("tokens", pa.int32()), ("finish_reason", pa.string())]
)
WARMTH = pa.schema([("key", pa.string()), ("sociot", pa.float64()), ("probe", pa.float64())])
VERDICTS = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("agrees_with_wrong", pa.bool_()),
        ("decided_by", pa.string()),
        ("evidence", pa.string()),
    ]
)


@dataclass(frozen=True)
class Question:
    """One item asked in one cell, and the key its reply is kept by."""

    item: Item
    cell: Cell
    request: Request


@dataclass(frozen=True)
class WarmthPrompt:
    """One held-out prompt of the warmth check; the cluster of its interval."""

    id: str
    request: Request


@dataclass(frozen=True)
class EvaluationTask:
    """One intensity to evaluate: a base model, an adapter (none for the original) and its strength."""

    base: BaseCheckpoint
    adapter: Adapter | None
    strength: float
    evaluate: EvaluateConfig
    corpus: Corpus
    items: tuple[Item, ...]

    def questions(self) -> list[Question]:
        """Return every item in every cell."""
        cells = cells_of(self.evaluate)
        return [Question(i, c, self._request(prompt(i, c))) for i in self.items for c in cells]

    def warmth_prompts(self) -> list[WarmthPrompt]:
        """Return the held-out prompts of the corpus's ``check`` split."""
        held_out = self.corpus.read("original", "check")
        chosen = sorted(held_out, key=lambda key: digest([key]))[: self.evaluate.warmth_prompts]
        return [WarmthPrompt(key, self._request(held_out[key][0]["content"])) for key in sorted(chosen)]

    def load(self) -> _Loaded:
        """Load model, engine and meters, or return those that this process has loaded before."""
        return _loaded(self.base, self.adapter, self.corpus, self.evaluate.batch_size)

    def _request(self, text: str) -> Request:
        messages = ({"role": "user", "content": text},)
        adapter = self.adapter.digest if self.adapter and self.strength != 0 else None
        facts = [ENGINE_VERSION, TEMPLATE_VERSION, self.base.digest, self.base.dtype, adapter, self.strength, "greedy"]
        most = self.evaluate.max_new_tokens
        return Request(digest([facts, messages, most]), messages, most)


def completion_store() -> ParquetStore:
    """Return the store of everything ever generated."""
    return ParquetStore(home() / "completions", COMPLETIONS)


def warmth_store() -> ParquetStore:
    """Return the store of warmth scores."""
    return ParquetStore(home() / "warmth", WARMTH)


def verdict_store() -> ParquetStore:
    """Return the store of verdicts."""
    return ParquetStore(home() / "verdicts", VERDICTS)


def evaluate_intensity(task: EvaluationTask, stage: str, post: Post) -> None:
    """Generate and score what the stores lack for one intensity.

    Raises:
        InputError: a prompt does not fit, or a store cannot be written.
        InterruptedRunError: the disk is full; all finished batches are kept.
    """
    requests = [question.request for question in task.questions()]
    requests += [warmth_prompt.request for warmth_prompt in task.warmth_prompts()]
    store = completion_store()
    finished = store.keys()
    missing = list({r.key: r for r in requests if r.key not in finished}.values())
    if missing:
        done, tokens = len(requests) - len(missing), 0
        post(Update(stage, done, len(requests)))
        for batch in task.load().engine.generate(missing, task.strength):
            store.append([asdict(completion) for completion in batch])
            done += len(batch)
            tokens += sum(completion.tokens for completion in batch)
            post(Update(stage, done, len(requests), tokens))
    keys = [warmth_prompt.request.key for warmth_prompt in task.warmth_prompts()]
    score_warmth(task, store.read(keys)["text"].tolist(), stage.replace("evaluate", "score"), post)


def score_anchors(task: EvaluationTask, post: Post) -> None:
    """Score the written warm and cold replies of the held-out prompts, which anchor the warmth scale."""
    replies = [text for variant in ("cold", "warm") for text in anchor_replies(task, variant).values()]
    score_warmth(task, replies, "score anchors", post)


def anchor_replies(task: EvaluationTask, variant: Variant) -> dict[str, str]:
    """Return the written replies of one variant to the prompts of the warmth check, by prompt id."""
    written = task.corpus.read(variant, "check")
    return {p.id: written[p.id][-1]["content"] for p in task.warmth_prompts()}


def warmth_key(task: EvaluationTask, reply: str) -> str:
    """Return the key by which a reply's warmth is kept; the probe depends on the corpus that it was fitted on."""
    return digest([METER_VERSION, task.base.digest, task.corpus.digest, reply])


def score_warmth(task: EvaluationTask, replies: Sequence[str], stage: str, post: Post) -> None:
    """Score replies with both meters, where the store has no score yet."""
    store = warmth_store()
    finished = store.keys()
    missing = {warmth_key(task, reply): reply for reply in replies}
    missing = {key: reply for key, reply in missing.items() if key not in finished}
    size, pending = 20, list(missing.items())
    for start in range(0, len(pending), size):
        chunk = pending[start : start + size]
        texts = [reply for _, reply in chunk]
        loaded = task.load()
        scores = zip(loaded.sociot.score(texts), loaded.probe.score(texts), strict=True)
        rows = [{"key": key, "sociot": s, "probe": p} for (key, _), (s, p) in zip(chunk, scores, strict=True)]
        store.append(rows)
        post(Update(stage, start + len(chunk), len(pending)))


@dataclass(frozen=True)
class _Loaded:
    """What a process keeps in memory between tasks."""

    engine: TransformersEngine
    sociot: SocioTMeter
    probe: LinearProbe


@lru_cache(maxsize=1)
def _loaded(base: BaseCheckpoint, adapter: Adapter | None, corpus: Corpus, batch_size: int) -> _Loaded:
    tokenizer = load_tokenizer(base)
    model = load_model(base).to(best_device())
    engine = TransformersEngine(AdaptedModel(model, adapter), tokenizer, batch_size)
    written = {v: [messages[-1]["content"] for messages in corpus.read(v, "probe").values()] for v in VARIANTS}
    probe = LinearProbe(model, tokenizer, written["warm"], written["cold"])
    return _Loaded(engine, SocioTMeter(model, tokenizer), probe)


def collect(task: EvaluationTask) -> pd.DataFrame:
    """Return the graded replies of one intensity, one row per item and cell; keep the verdicts in their store.

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
            belief_stated=q.cell.belief == "wrong",
        )
        rows.append(
            {
                "key": digest([q.request.key, GRADER_VERSION, asdict(q.item)]),
                "item": q.item.id,
                "dataset": q.item.dataset,
                "context": q.cell.context,
                "belief": q.cell.belief,
                "cell": q.cell.name,
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
    return _with_scores(task, {p.id: str(texts.loc[p.request.key]) for p in prompts})


def collect_anchors(task: EvaluationTask) -> pd.DataFrame:
    """Return the warmth of the written replies, with a column ``variant``."""
    parts = [_with_scores(task, anchor_replies(task, variant)).assign(variant=variant) for variant in ("cold", "warm")]
    return pd.concat(parts, ignore_index=True)


def _with_scores(task: EvaluationTask, replies: dict[str, str]) -> pd.DataFrame:
    keys = {prompt_id: warmth_key(task, reply) for prompt_id, reply in replies.items()}
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
