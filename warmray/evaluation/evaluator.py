"""One loaded model that answers and scores: a Ray actor, of which a cluster runs one per GPU (or CPU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ray

from warmray.config import EvaluateConfig
from warmray.corpus.build import Corpus
from warmray.corpus.conversations import VARIANTS
from warmray.evaluation.intensity import AskedQuestion, Finished, IntensityEvaluation
from warmray.evaluation.prompts import TEMPLATE_VERSION
from warmray.evaluation.stores import completion_store, warmth_store
from warmray.evaluation.warmth.probe import LinearProbe
from warmray.evaluation.warmth.sociot import SocioTMeter
from warmray.generation.engine import Completion, Engine
from warmray.models.adapters import AdaptedModel, Adapter
from warmray.models.loading import BaseCheckpoint, best_device, load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from warmray.generation.endpoint import Endpoint


class Evaluator:
    """Keeps one base model with one adapter in memory; when a method returns, its work is in the stores."""

    def __init__(self) -> None:
        """Load nothing yet: the first call says what."""
        self._loaded: _Loaded | None = None

    @ray.method(max_task_retries=-1)
    def ready(self) -> bool:
        """Answer as soon as the process runs, also when Ray is only about to start it again."""
        return True

    def generate(self, task: IntensityEvaluation, questions: Sequence[AskedQuestion]) -> Finished:
        """Answer questions and keep the completions.

        Raises:
            InputError: a prompt does not fit, or the store cannot be written.
            InterruptedRunError: the disk is full; all finished batches are kept.
        """
        tokens = 0
        asked = {question.request.key: question for question in questions}
        loaded = self._load(task)
        for batch in loaded.engine.generate([question.request for question in asked.values()]):
            completion_store().append(_row(task, asked[completion.key], completion) for completion in batch)
            tokens += sum(completion.tokens for completion in batch)
        return Finished(len(questions), tokens, loaded.endpoint.take_spent() if loaded.endpoint else None)

    def score(self, task: IntensityEvaluation, replies: Sequence[str]) -> Finished:
        """Measure the warmth of replies with both meters and keep it."""
        loaded = self._load(task)
        scores = zip(loaded.sociot.score(replies), loaded.probe.score(replies), strict=True)
        rows = [
            {"key": task.warmth_key(reply), "sociot": sociot, "probe": probe}
            for reply, (sociot, probe) in zip(replies, scores, strict=True)
        ]
        warmth_store().append(rows)
        return Finished(len(rows), tokens=0)

    def probe(self, task: IntensityEvaluation, replies: Sequence[str]) -> Finished:
        """Measure the warmth of replies with the probe alone, which is much the cheaper meter, and keep it."""
        scores = self._load(task).probe.score(replies)
        keys = (task.probe_key(reply) for reply in replies)
        warmth_store().append([{"key": k, "sociot": None, "probe": s} for k, s in zip(keys, scores, strict=True)])
        return Finished(len(replies), tokens=0)

    def _load(self, task: IntensityEvaluation) -> _Loaded:
        evaluate = task.evaluate.model_copy(update={"system_prompt": None})  # a part of the questions, not of the model
        wanted = (task.base, task.adapter, task.corpus, task.scorer, evaluate)
        if self._loaded is None or self._loaded.what != wanted:
            self._loaded = None  # the old model goes before the new one comes
            self._loaded = _Loaded(*wanted)
        return self._loaded


class _Loaded:
    """The engine around the model of one adapter, and the scorer's meters; each is made when it is first used."""

    def __init__(
        self,
        base: BaseCheckpoint,
        adapter: Adapter | None,
        corpus: Corpus,
        scorer: BaseCheckpoint,
        evaluate: EvaluateConfig,
    ) -> None:
        self.what = (base, adapter, corpus, scorer, evaluate)
        self.base, self.adapter, self.corpus, self.scorer, self.evaluate = self.what

    @cached_property
    def engine(self) -> Engine:
        if self.endpoint:
            from warmray.generation.endpoint_engine import EndpointEngine

            return EndpointEngine(self.endpoint)
        if self.evaluate.engine == "vllm":
            from warmray.generation.vllm_engine import VllmEngine

            return VllmEngine(self.base, self.adapter, self.evaluate.vllm_python)
        from warmray.generation.transformers_engine import TransformersEngine

        adapted = AdaptedModel(self._base_model, self.adapter)
        return TransformersEngine(
            adapted, load_tokenizer(self.base), self.evaluate.batch_size, self.evaluate.batch_tokens
        )

    @cached_property
    def endpoint(self) -> Endpoint | None:
        """What is asked instead of a model in memory."""
        if self.evaluate.engine != "openai":
            return None
        from warmray.generation.endpoint import Endpoint

        assert self.evaluate.endpoint is not None
        return Endpoint(self.evaluate.endpoint)

    @cached_property
    def sociot(self) -> SocioTMeter:
        return SocioTMeter(self._scorer_model, load_tokenizer(self.scorer))

    @cached_property
    def probe(self) -> LinearProbe:
        written = {v: [messages[-1]["content"] for messages in self.corpus.read(v, "probe").values()] for v in VARIANTS}
        return LinearProbe(self._scorer_model, load_tokenizer(self.scorer), written["warm"], written["cold"])

    @cached_property
    def _base_model(self) -> PreTrainedModel:
        return load_model(self.base).to(best_device())

    @property
    def _scorer_model(self) -> PreTrainedModel:
        if self.scorer == self.base and self.evaluate.engine == "transformers":
            return self._base_model
        return self._other_scorer

    @cached_property
    def _other_scorer(self) -> PreTrainedModel:
        return load_model(self.scorer).to(best_device())


def _row(task: IntensityEvaluation, question: AskedQuestion, completion: Completion) -> dict[str, Any]:
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
