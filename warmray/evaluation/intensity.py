"""What evaluating one intensity asks for, and the keys under which finished answers and scores are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmray.config import EvaluateConfig, ModelConfig
from warmray.corpus.build import Corpus
from warmray.corpus.conversations import Variant
from warmray.errors import InputError
from warmray.evaluation.prompts import TEMPLATE_VERSION, cells_for, prompt, system_prompts
from warmray.evaluation.tasks.items import Item, spread
from warmray.evaluation.tasks.registry import task_of
from warmray.generation.engine import Request, Sampling
from warmray.grid import PLAIN, Cell
from warmray.models.adapters import Adapter
from warmray.models.loading import BaseCheckpoint, resolve_model
from warmray.storage.hashing import digest

if TYPE_CHECKING:
    from warmray.generation.endpoint import Spending

ENGINE_VERSION = 3
METER_VERSION = 3
"""Parts of the keys: raise them when generation or a meter changes what it returns."""
WARMTH_CHECK = "warmth"
"""The data set of the held-out prompts of the warmth check."""


@dataclass(frozen=True)
class AskedQuestion:
    """One item asked in one cell, once per sample, and the request under whose key its reply is stored."""

    item: Item
    cell: Cell
    sample: int
    request: Request


@dataclass(frozen=True)
class IntensityEvaluation:
    """One intensity to evaluate: a base model, an adapter (none for the original) and its strength."""

    base: BaseCheckpoint
    adapter: Adapter | None
    strength: float
    evaluate: EvaluateConfig
    corpus: Corpus
    items: tuple[Item, ...]
    scorer: BaseCheckpoint
    """The model of the warmth meters."""

    def questions(self) -> list[AskedQuestion]:
        """Return every item in every cell that it is asked in, as often as it is sampled."""
        cells = self.evaluate.asked_cells()
        return [
            AskedQuestion(item, cell, sample, self._request(prompt(item, cell), f"{item.id}/{cell.name}", sample))
            for item in self.items
            for cell in cells_for(item, cells)
            for sample in range(self.evaluate.samples)
        ]

    def probed_questions(self) -> list[AskedQuestion]:
        """Return the questions whose replies the probe reads to measure the warmth of every cell.

        As many items as the warmth check has prompts, the same for every model; without controls, and the first sample.
        """
        chosen = set(spread((i for i in self.items if not task_of(i).is_control), self.evaluate.warmth_prompts))
        return [question for question in self.questions() if question.item in chosen and question.sample == 0]

    def warmth_prompts(self) -> list[AskedQuestion]:
        """Return the held-out prompts of the corpus's ``check`` split; the clusters of warmth's interval."""
        held_out = self.corpus.read("original", "check")
        chosen = sorted(held_out, key=lambda key: digest([key]))[: self.evaluate.warmth_prompts]
        texts = {key: held_out[key][0]["content"] for key in sorted(chosen)}
        return [
            AskedQuestion(Item(key, WARMTH_CHECK, text, (), ()), PLAIN, 0, self._request(text, key, 0))
            for key, text in texts.items()
        ]

    def anchor_replies(self, variant: Variant) -> dict[str, str]:
        """Return the written replies of one variant to the prompts of the warmth check, by prompt id."""
        written = self.corpus.read(variant, "check")
        return {question.item.id: written[question.item.id][-1]["content"] for question in self.warmth_prompts()}

    def warmth_key(self, reply: str) -> str:
        """Return the key of a reply's warmth in the store; the probe depends on the corpus that it was fitted on."""
        return digest([METER_VERSION, self.scorer.digest, self.corpus.digest, reply])

    def probe_key(self, reply: str) -> str:
        """Return the key of the warmth of a reply that only the probe has read."""
        return digest([METER_VERSION, "probe", self.scorer.digest, self.corpus.digest, reply])

    @property
    def adapter_digest(self) -> str | None:
        """The adapter that changes the replies; None at strength 0, which is the original model for every adapter."""
        return self.adapter.digest if self.adapter and self.strength != 0 else None

    def _request(self, text: str, asked: str, sample: int) -> Request:
        """Return a request whose key names everything that its reply depends on, and nothing else."""
        evaluate, endpoint = self.evaluate, self.evaluate.endpoint
        instruction = evaluate.system_prompt
        system = ({"role": "system", "content": system_prompts()[instruction]},) if instruction else ()
        messages = (*system, {"role": "user", "content": text})
        sampling = Sampling(evaluate.temperature, evaluate.max_new_tokens)

        # Engines round numbers differently, so that the same model answers differently in each.
        speaker: list[object] = [evaluate.engine, ENGINE_VERSION, self.base.digest, self.base.dtype]
        if evaluate.engine == "openai" and endpoint:
            speaker = ["openai", endpoint.base_url, endpoint.model]
        facts = [*speaker, TEMPLATE_VERSION, self.adapter_digest, self.strength]
        key = digest([facts, messages, [sampling.temperature, sampling.max_new_tokens, sample]])

        seed = int(digest([asked, sample, "seed"]), 16) % (1 << 63)  # the same for every intensity
        return Request(key, messages, sampling, self.strength, seed)


@dataclass(frozen=True)
class Finished:
    """What one call of an evaluator wrote to the stores."""

    rows: int
    tokens: int
    spent: Spending | None = None
    """By an endpoint."""


def warmth_scorer(evaluate: EvaluateConfig) -> BaseCheckpoint:
    """Return the model of both warmth meters.

    Raises:
        InputError: the one named cannot be found or fetched.
    """
    try:
        return resolve_model(ModelConfig(source=evaluate.scorer), is_asked=False)
    except InputError as error:
        raise InputError(str(error).replace("model.source", "evaluate.scorer")) from error
