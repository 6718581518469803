"""What evaluating one intensity asks for, and the keys by which finished answers and scores are found again."""

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
METER_VERSION = 2
"""Parts of the keys: raise them when generation or a meter changes what comes out."""
WARMTH_CHECK = "warmth"
"""The data set that the held-out prompts of the warmth check belong to."""


@dataclass(frozen=True)
class AskedQuestion:
    """One item asked in one cell, once per sample, and the request whose key its reply is kept by."""

    item: Item
    cell: Cell
    sample: int
    request: Request

    @property
    def belief(self) -> str | None:
        """The wrong answer that the user states, if any."""
        return self.item.incorrect[0] if self.cell.belief == "wrong" and self.item.incorrect else None


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
        """Return the questions whose replies the probe reads, so that the warmth of every cell is known.

        As many items as the warmth check has prompts, the same for every model; without controls, and the first sample.
        """
        chosen = set(spread((i for i in self.items if not task_of(i).is_control), self.evaluate.warmth_prompts))
        return [question for question in self.questions() if question.item in chosen and question.sample == 0]

    def warmth_prompts(self) -> list[AskedQuestion]:
        """Return the held-out prompts of the corpus's ``check`` split; the clusters of warmth's interval."""
        held_out = self.corpus.read("original", "check")
        chosen = sorted(held_out, key=lambda key: digest([key]))[: self.evaluate.warmth_prompts]
        return [self._warmth_prompt(key, held_out[key][0]["content"]) for key in sorted(chosen)]

    def anchor_replies(self, variant: Variant) -> dict[str, str]:
        """Return the written replies of one variant to the prompts of the warmth check, by prompt id."""
        written = self.corpus.read(variant, "check")
        return {question.item.id: written[question.item.id][-1]["content"] for question in self.warmth_prompts()}

    def warmth_key(self, reply: str) -> str:
        """Return the key by which a reply's warmth is kept; the probe depends on the corpus that it was fitted on."""
        return digest([METER_VERSION, self.scorer.digest, self.corpus.digest, reply])

    def probe_key(self, reply: str) -> str:
        """Return the key by which the warmth of a reply is kept that the probe alone has read."""
        return digest([METER_VERSION, "probe", self.scorer.digest, self.corpus.digest, reply])

    @property
    def adapter_digest(self) -> str | None:
        """The adapter that takes part in what is said; None at strength 0, which is the original for all of them."""
        return self.adapter.digest if self.adapter and self.strength != 0 else None

    @property
    def _speaker(self) -> list[object]:
        """The model and the engine that speak: numbers are rounded otherwise in each, and dice thrown otherwise."""
        endpoint = self.evaluate.endpoint
        if self.evaluate.engine == "openai" and endpoint:
            return ["openai", endpoint.base_url, endpoint.model]
        return [self.evaluate.engine, ENGINE_VERSION, self.base.digest, self.base.dtype]

    def _warmth_prompt(self, key: str, text: str) -> AskedQuestion:
        item = Item(key, WARMTH_CHECK, text, (), ())
        return AskedQuestion(item, PLAIN, 0, self._request(text, key, 0))

    def _request(self, text: str, asked: str, sample: int) -> Request:
        """Return a request whose key tells everything that its reply depends on, and nothing else."""
        told = self.evaluate.system_prompt
        instruction = ({"role": "system", "content": system_prompts()[told]},) if told else ()
        messages = (*instruction, {"role": "user", "content": text})
        sampling = Sampling(self.evaluate.temperature, self.evaluate.max_new_tokens)
        facts = [*self._speaker, TEMPLATE_VERSION, self.adapter_digest, self.strength]
        drawn = [sampling.temperature, sampling.max_new_tokens, sample]
        seed = int(digest([asked, sample, "seed"]), 16) % (1 << 63)
        return Request(digest([facts, messages, drawn]), messages, sampling, self.strength, seed)


@dataclass(frozen=True)
class Finished:
    """What one call of an evaluator has put into the stores."""

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
