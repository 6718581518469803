"""What evaluating one intensity asks for, and the keys by which finished answers and scores are found again."""

from __future__ import annotations

from dataclasses import dataclass

from warmray.config import EvaluateConfig
from warmray.corpus.build import Corpus
from warmray.corpus.conversations import Variant
from warmray.evaluation.items import Item
from warmray.evaluation.prompts import TEMPLATE_VERSION, Cell, cells_of, prompt
from warmray.generation.engine import Request
from warmray.hashing import digest
from warmray.models.adapters import Adapter
from warmray.models.loading import BaseCheckpoint

ENGINE_VERSION = 2
METER_VERSION = 2
"""Parts of the keys: raise them when generation or a meter changes what comes out."""


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

    def anchor_replies(self, variant: Variant) -> dict[str, str]:
        """Return the written replies of one variant to the prompts of the warmth check, by prompt id."""
        written = self.corpus.read(variant, "check")
        return {p.id: written[p.id][-1]["content"] for p in self.warmth_prompts()}

    def warmth_key(self, reply: str) -> str:
        """Return the key by which a reply's warmth is kept; the probe depends on the corpus that it was fitted on."""
        return digest([METER_VERSION, self.base.digest, self.corpus.digest, reply])

    def _request(self, text: str) -> Request:
        messages = ({"role": "user", "content": text},)
        adapter = self.adapter.digest if self.adapter and self.strength != 0 else None
        facts = [ENGINE_VERSION, TEMPLATE_VERSION, self.base.digest, self.base.dtype, adapter, self.strength, "greedy"]
        most = self.evaluate.max_new_tokens
        return Request(digest([facts, messages, most]), messages, most)


@dataclass(frozen=True)
class Finished:
    """What one call of an evaluator has put into the stores."""

    rows: int
    tokens: int
