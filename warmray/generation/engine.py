"""What generates: one protocol for every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from warmray.corpus.conversations import Message

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One chat to be continued by the assistant, under the key its completion is kept by."""

    key: str
    messages: tuple[Message, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class Completion:
    """What the model replied; ``finish_reason`` is ``length`` when it was cut at ``max_new_tokens``."""

    key: str
    text: str
    tokens: int
    finish_reason: FinishReason


class Engine(Protocol):
    """Continues chats with a base model and an adapter at a given strength."""

    def generate(self, requests: Sequence[Request], strength: float) -> Iterator[list[Completion]]:
        """Yield completions batch by batch, so that each batch can be kept before the next begins."""
        ...
