"""Answers and scores: a Ray actor, of which a cluster runs one per GPU (or CPU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import ray

from warmray.corpus.conversations import VARIANTS
from warmray.evaluation.intensity import AskedQuestion, Finished, IntensityEvaluation
from warmray.evaluation.prompts import TEMPLATE_VERSION
from warmray.evaluation.stores import completion_store, warmth_store
from warmray.evaluation.warmth.probe import LinearProbe
from warmray.evaluation.warmth.sociot import SocioTMeter
from warmray.generation.endpoint import Endpoint
from warmray.generation.endpoint_engine import EndpointEngine
from warmray.generation.engine import Completion, Engine
from warmray.models.adapters import AdaptedModel
from warmray.models.loading import BaseCheckpoint, best_device, load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class _Meters:
    """Both warmth meters, on the scorer's model."""

    sociot: SocioTMeter
    probe: LinearProbe


class Evaluator:
    """Keeps an engine and the warmth meters in memory; when a method returns, its work is in the stores."""

    def __init__(self) -> None:
        """Load nothing yet: answering loads the evaluated model, scoring loads the scorer."""
        self._models: dict[BaseCheckpoint, PreTrainedModel] = {}
        self._engine: Engine | None = None
        self._engine_key: object = None
        self._meters: _Meters | None = None
        self._meters_key: object = None

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
        engine = self._engine_for(task)
        for batch in engine.generate([question.request for question in asked.values()]):
            completion_store().append(_row(task, asked[completion.key], completion) for completion in batch)
            tokens += sum(completion.tokens for completion in batch)
        spent = engine.endpoint.take_spent() if isinstance(engine, EndpointEngine) else None
        return Finished(len(questions), tokens, spent)

    def score(self, task: IntensityEvaluation, replies: Sequence[str]) -> Finished:
        """Measure the warmth of replies with both meters and keep it."""
        meters = self._meters_for(task)
        scores = zip(meters.sociot.score(replies), meters.probe.score(replies), strict=True)
        rows = [
            {"key": task.warmth_key(reply), "sociot": sociot, "probe": probe}
            for reply, (sociot, probe) in zip(replies, scores, strict=True)
        ]
        warmth_store().append(rows)
        return Finished(len(rows), tokens=0)

    def probe(self, task: IntensityEvaluation, replies: Sequence[str]) -> Finished:
        """Measure the warmth of replies with the probe alone, which is much the cheaper meter, and keep it."""
        scores = self._meters_for(task).probe.score(replies)
        keys = (task.probe_key(reply) for reply in replies)
        warmth_store().append([{"key": k, "sociot": None, "probe": s} for k, s in zip(keys, scores, strict=True)])
        return Finished(len(replies), tokens=0)

    def _engine_for(self, task: IntensityEvaluation) -> Engine:
        """Return the engine; a change of base, adapter or settings makes a new one."""
        settings = task.evaluate.model_copy(update={"system_prompt": None})  # a part of the questions, not of the model
        wanted = (task.base, task.adapter, settings)
        if self._engine is None or self._engine_key != wanted:
            self._engine = None  # the old one goes before the new one comes
            self._engine, self._engine_key = self._started_engine(task), wanted
        return self._engine

    def _started_engine(self, task: IntensityEvaluation) -> Engine:
        evaluate = task.evaluate
        if evaluate.engine == "openai":
            assert evaluate.endpoint is not None
            return EndpointEngine(Endpoint(evaluate.endpoint))
        if evaluate.engine == "vllm":
            from warmray.generation.vllm_engine import VllmEngine

            return VllmEngine(task.base, task.adapter, evaluate.vllm_python)
        from warmray.generation.transformers_engine import TransformersEngine

        adapted = AdaptedModel(self._model(task.base, task), task.adapter)
        return TransformersEngine(adapted, load_tokenizer(task.base), evaluate.batch_size, evaluate.batch_tokens)

    def _meters_for(self, task: IntensityEvaluation) -> _Meters:
        """Return the meters; a change of scorer or corpus makes new ones, a change of adapter does not."""
        wanted = (task.scorer, task.corpus)
        if self._meters is None or self._meters_key != wanted:
            self._meters = None
            model, tokenizer = self._model(task.scorer, task), load_tokenizer(task.scorer)
            written = {v: [turns[-1]["content"] for turns in task.corpus.read(v, "probe").values()] for v in VARIANTS}
            probe = LinearProbe(model, tokenizer, written["warm"], written["cold"])
            self._meters, self._meters_key = _Meters(SocioTMeter(model, tokenizer), probe), wanted
        return self._meters

    def _model(self, checkpoint: BaseCheckpoint, task: IntensityEvaluation) -> PreTrainedModel:
        """Return a loaded model; where the evaluated model is also the scorer, both share one copy.

        An engine changes weights only while it generates, and this actor does one thing at a time.
        """
        self._models = {known: model for known, model in self._models.items() if known in (task.base, task.scorer)}
        if checkpoint not in self._models:
            self._models[checkpoint] = load_model(checkpoint, best_device())
        return self._models[checkpoint]


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
