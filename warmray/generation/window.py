"""Chats as tokens, and which of them fit with their replies into a model's context window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from warmray.generation.engine import Completion, Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_chat(tokenizer: PreTrainedTokenizerBase, request: Request) -> list[int]:
    """Return the tokens of a chat, up to the start of the assistant's reply."""
    text = tokenizer.apply_chat_template(list(request.messages), tokenize=False, add_generation_prompt=True)
    # The template has already written the special tokens.
    tokens: list[int] = tokenizer.encode(str(text), add_special_tokens=False)
    return tokens


def by_window(
    requests: Sequence[Request], prompts: dict[str, list[int]], context: int | None
) -> tuple[list[Request], list[Completion]]:
    """Split requests by the context window.

    Args:
        requests: The requests.
        prompts: The tokens of each request, by its key.
        context: Tokens of the window, for prompt and reply together; None for no limit.

    Returns:
        The requests that fit, and an empty ``too_long`` completion for each of the others.
    """
    fitting: list[Request] = []
    too_long: list[Completion] = []
    for request in requests:
        if context is None or len(prompts[request.key]) + request.sampling.max_new_tokens <= context:
            fitting.append(request)
        else:
            too_long.append(Completion(request.key, "", 0, "too_long"))
    return fitting, too_long
