"""Prompts as tokens, and which of them fit into a model's window together with their reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from warmray.generation.engine import Completion, Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_chat(tokenizer: PreTrainedTokenizerBase, request: Request) -> list[int]:
    """Return a chat's tokens up to where the assistant begins to speak."""
    text = tokenizer.apply_chat_template(list(request.messages), tokenize=False, add_generation_prompt=True)
    tokens: list[int] = tokenizer.encode(str(text), add_special_tokens=False)
    return tokens


def by_window(
    requests: Sequence[Request], prompts: dict[str, list[int]], context: int | None
) -> tuple[list[Request], list[Completion]]:
    """Part the requests that fit into ``context`` tokens from those that do not, which get an empty completion."""

    def fits(request: Request) -> bool:
        return context is None or len(prompts[request.key]) + request.sampling.max_new_tokens <= context

    too_long = [Completion(request.key, "", 0, "too_long") for request in requests if not fits(request)]
    return [request for request in requests if fits(request)], too_long
