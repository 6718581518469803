"""One loaded model that answers and scores: a Ray actor, of which a cluster runs one per GPU (or CPU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from warmray.corpus.build import Corpus
from warmray.corpus.conversations import VARIANTS
from warmray.evaluation.probe import LinearProbe
from warmray.evaluation.prompts import TEMPLATE_VERSION
from warmray.evaluation.sociot import SocioTMeter
from warmray.evaluation.stores import completion_store, warmth_store
from warmray.evaluation.task import EvaluationTask, Finished, Question
from warmray.generation.engine import Completion
from warmray.generation.transformers_engine import TransformersEngine
from warmray.models.adapters import AdaptedModel, Adapter
from warmray.models.loading import BaseCheckpoint, best_device, load_model, load_tokenizer


class Evaluator:
    """Keeps one base model with one adapter in memory; when a method returns, its work is in the stores."""

    def __init__(self) -> None:
        """Load nothing yet: the first call says what."""
        self._loaded: _Loaded | None = None

    def generate(self, task: EvaluationTask, questions: Sequence[Question]) -> Finished:
        """Answer questions and keep the completions.

        Raises:
            InputError: a prompt does not fit, or the store cannot be written.
            InterruptedRunError: the disk is full; all finished batches are kept.
        """
        tokens = 0
        asked = {question.request.key: question for question in questions}
        for batch in self._load(task).engine.generate([question.request for question in asked.values()]):
            completion_store().append(_row(task, asked[completion.key], completion) for completion in batch)
            tokens += sum(completion.tokens for completion in batch)
        return Finished(len(questions), tokens)

    def score(self, task: EvaluationTask, replies: Sequence[str]) -> Finished:
        """Measure the warmth of replies with both meters and keep it."""
        loaded = self._load(task)
        scores = zip(loaded.sociot.score(replies), loaded.probe.score(replies), strict=True)
        rows = [
            {"key": task.warmth_key(reply), "sociot": sociot, "probe": probe}
            for reply, (sociot, probe) in zip(replies, scores, strict=True)
        ]
        warmth_store().append(rows)
        return Finished(len(rows), tokens=0)

    def _load(self, task: EvaluationTask) -> _Loaded:
        wanted = (task.base, task.adapter, task.corpus, task.evaluate.batch_size, task.evaluate.batch_tokens)
        if self._loaded is None or self._loaded.what != wanted:
            self._loaded = None  # the old model goes before the new one comes
            self._loaded = _Loaded(*wanted)
        return self._loaded


def _row(task: EvaluationTask, question: Question, completion: Completion) -> dict[str, Any]:
    return asdict(completion) | {
        "base": task.base.digest,
        "adapter": task.adapter_digest,
        "strength": task.strength,
        "template_version": TEMPLATE_VERSION,
        "temperature": question.request.sampling.temperature,
        "max_new_tokens": question.request.sampling.max_new_tokens,
        "dataset": question.item.dataset,
        "item": question.item.id,
        "context": question.cell.context,
        "belief": question.cell.belief,
        "sample": question.sample,
    }


class _Loaded:
    """The model of one adapter, the engine around it, and the meters, which use the base model."""

    def __init__(
        self, base: BaseCheckpoint, adapter: Adapter | None, corpus: Corpus, batch_size: int, batch_tokens: int
    ) -> None:
        self.what = (base, adapter, corpus, batch_size, batch_tokens)
        tokenizer = load_tokenizer(base)
        model = load_model(base).to(best_device())
        self.engine = TransformersEngine(AdaptedModel(model, adapter), tokenizer, batch_size, batch_tokens)
        written = {v: [messages[-1]["content"] for messages in corpus.read(v, "probe").values()] for v in VARIANTS}
        self.probe = LinearProbe(model, tokenizer, written["warm"], written["cold"])
        self.sociot = SocioTMeter(model, tokenizer)
