"""The protocol that every generation engine implements, and its requests and completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from warmray.corpus.conversations import Message

FinishReason = Literal["stop", "length", "too_long"]


@dataclass(frozen=True)
class Sampling:
    """How replies are sampled; temperature 0 is greedy."""

    temperature: float
    max_new_tokens: int


@dataclass(frozen=True)
class Request:
    """One chat for the assistant to continue, with the key that its completion is stored under."""

    key: str
    messages: tuple[Message, ...]
    sampling: Sampling
    strength: float = 0.0
    """Multiplier on the engine's adapter."""
    seed: int = 0
    """Seed of this row's own random numbers: a reply does not depend on the other rows of its batch. Requests that
    differ only in strength share a seed, and differences between their replies come from the strength alone."""


@dataclass(frozen=True)
class Completion:
    """The reply of the model.

    ``finish_reason`` is ``length`` if the reply was cut at ``max_new_tokens``. It is ``too_long`` if the model was not
    asked, because prompt and reply do not fit into its context window.
    """

    key: str
    text: str
    tokens: int
    finish_reason: FinishReason


class Engine(Protocol):
    """Continues chats with a base model and, at any strength, an adapter."""

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions batch by batch; the caller can store each batch before the next one starts."""
        ...
