"""Conversations become token ids with a mask that marks what is trained: assistant turns, and only those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmray.corpus.conversations import Message
from warmray.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """One tokenised conversation; both tuples have one entry per token."""

    id: str
    token_ids: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True)
class TokenisedCorpus:
    """The examples that fit, and the ids of the conversations that are too long."""

    examples: list[Example]
    too_long: list[str]


def tokenise_corpus(
    conversations: dict[str, list[Message]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenisedCorpus:
    """Tokenise conversations by id, leaving out (never cutting) those longer than ``max_length`` tokens.

    Raises:
        InputError: nothing is left, or the chat template rewrites earlier turns.
    """
    every = [tokenise(key, messages, tokenizer) for key, messages in sorted(conversations.items())]
    fitting = [example for example in every if len(example.token_ids) <= max_length]
    if not fitting:
        raise InputError(
            f"all {len(every)} conversations are longer than train.max_length={max_length} tokens: raise it"
        )
    return TokenisedCorpus(fitting, [example.id for example in every if len(example.token_ids) > max_length])


def tokenise(key: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> Example:
    """Tokenise one conversation; trained are the assistant's texts with their end-of-turn token.

    Works for chat templates without generation marks: each assistant turn is what the rendered text gains when the
    turn is added after its generation prompt.
    """
    text = _render(tokenizer, messages, False)
    spans: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before = _render(tokenizer, messages[:index], True)
            after = _render(tokenizer, messages[: index + 1], False)
            if not (after.startswith(before) and text.startswith(after)):
                raise InputError(
                    f"the chat template rewrites earlier turns (conversation {key!r}): use a model whose does not"
                )
            spans.append((len(before), len(after.rstrip())))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    trained = [any(start <= a and b <= end and b > a for start, end in spans) for a, b in encoded["offset_mapping"]]
    return Example(key, tuple(encoded["input_ids"]), tuple(trained))


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], add_generation_prompt: bool) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt))
