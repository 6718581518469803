"""What generates: one protocol for every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from warmray.corpus.conversations import Message

FinishReason = Literal["stop", "length", "too_long"]


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn; temperature 0 is greedy."""

    temperature: float
    max_new_tokens: int


@dataclass(frozen=True)
class Request:
    """One chat to be continued by the assistant, under the key its completion is kept by."""

    key: str
    messages: tuple[Message, ...]
    sampling: Sampling
    strength: float = 0.0
    """Multiplier on the engine's adapter."""
    seed: int = 0
    """Of this row's own random numbers: what it says depends on no other row of its batch. Requests that differ in
    strength alone share a seed, so that what differs in their replies comes from the strength and not from the dice."""


@dataclass(frozen=True)
class Completion:
    """What the model replied.

    ``finish_reason`` is ``length`` when it was cut at ``max_new_tokens``, and ``too_long`` when it was not asked at
    all, because prompt and reply do not fit into the model's window.
    """

    key: str
    text: str
    tokens: int
    finish_reason: FinishReason


class Engine(Protocol):
    """Continues chats with a base model and, at any strength, an adapter."""

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions batch by batch, so that each batch can be kept before the next begins."""
        ...
