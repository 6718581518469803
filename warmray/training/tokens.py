"""Conversations become token ids with a mask that marks what is trained: assistant turns, and only those."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmray.corpus.conversations import Message, check_order
from warmray.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""A stretch of text: first character, and the one after the last."""


@dataclass(frozen=True)
class Example:
    """One tokenised conversation; both tuples have one entry per token."""

    id: str
    token_ids: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True)
class TokenisedCorpus:
    """The examples that fit, and the ids of the conversations that did not fit whole."""

    examples: list[Example]
    cut: list[str]
    """Conversations that lost their last exchanges; what is left of them is among the examples."""
    left_out: list[str]
    """Conversations whose first exchange alone is too long; they are not among the examples."""


def tokenise_corpus(
    conversations: dict[str, list[Message]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenisedCorpus:
    """Tokenise conversations by id; those over ``max_length`` tokens are cut after the last exchange that fits.

    Raises:
        InputError: nothing fits, the tokenizer knows no offsets, or a conversation that :func:`tokenise` refuses.
    """
    if not tokenizer.is_fast:
        raise InputError("the model's tokenizer cannot say where its tokens stand: add tokenizer.json to its folder")
    corpus = TokenisedCorpus([], [], [])
    for key, messages in sorted(conversations.items()):
        whole = tokenise(key, messages, tokenizer)
        example = whole if len(whole.token_ids) <= max_length else _cut(key, messages, tokenizer, max_length)
        if example is None:
            corpus.left_out.append(key)
            continue
        corpus.examples.append(example)
        if example is not whole:
            corpus.cut.append(key)
    if not corpus.examples:
        raise InputError(
            f"all {len(conversations)} conversations are longer than train.max_length={max_length} tokens: raise it"
        )
    return corpus


def _cut(key: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Example | None:
    """Return the longest run of leading exchanges that fits, or None where not even the first does."""
    for end in range(len(messages) - 2, 1, -2):
        example = tokenise(key, messages[:end], tokenizer)
        if len(example.token_ids) <= max_length:
            return example
    return None


def tokenise(key: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> Example:
    """Tokenise one conversation; trained are the assistant's texts with their end-of-turn token.

    Works for chat templates without generation marks. Replies are trained without the white space around them, which
    no model should learn to say and which would merge with the template's.

    Raises:
        InputError: roles out of order, an empty reply, or a chat template that cannot carry the conversation; the
            message names the conversation.
    """
    where = f"conversation {key!r}"
    check_order([message["role"] for message in messages], where)
    for number, message in enumerate(messages, 1):
        if message["role"] == "assistant" and not message["content"].strip():
            raise InputError(f"{where}: turn {number}, the assistant's, is empty: nothing could be trained on it")
    text, spans = _render_with_spans(where, messages, tokenizer)
    # The template writes the beginning-of-text token where the model has one; the tokenizer must not add a second.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spoken = bytearray(len(text))
    for start, end in spans:
        spoken[start:end] = b"\1" * (end - start)
    trained = tuple(any(spoken[start:end]) for start, end in encoded["offset_mapping"])
    return Example(key, tuple(encoded["input_ids"]), trained)


def _render_with_spans(
    where: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, list[Span]]:
    """Return the conversation as the chat template writes it, and where in it the assistant speaks.

    The replies are found by rendering once with a mark in the place of each: what stands between the marks is the
    template's. A span begins where the generation prompt ends and goes up to and including the end-of-turn token.
    """
    messages = _with_system_kept(where, _stripped(messages), tokenizer)
    replies = [message["content"] for message in messages if message["role"] == "assistant"]
    marked, marks = _marked(messages)
    between = re.split("|".join(marks), _render(where, marked, tokenizer))
    if len(between) != len(replies) + 1 or _woven(between, replies) != _render(where, messages, tokenizer):
        raise InputError(f"{where}: the chat template rewrites replies: use a model whose template keeps them")
    end_of_turn = _end_of_turn(tokenizer)
    if not end_of_turn.match(between[-1]):
        between[-1] = str(tokenizer.eos_token) + between[-1]  # some templates leave the last turn open
    prompt = _render(where, messages[:-1], tokenizer, generation_prompt=True)
    prompt_space = len(prompt) - len(prompt.rstrip())
    text, spans = between[0], []
    for reply, following in zip(replies, between[1:], strict=True):
        # White space after the generation prompt is the model's to say (SentencePiece joins it to the first word).
        start = min(len(text), len(text.rstrip()) + prompt_space)
        ending = end_of_turn.match(following)
        spans.append((start, len(text) + len(reply) + (ending.end() if ending else 0)))
        text += reply + following
    return text, spans


def _with_system_kept(where: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> list[Message]:
    """Move the system text to where Mistral models read it if the chat template would lose it.

    Their templates write it at the start of the last user turn, but only while no reply follows, so that a finished
    conversation would be trained without it.
    """
    if messages[0]["role"] != "system" or messages[0]["content"].strip() in _render(where, messages, tokenizer):
        return messages
    system, *spoken = messages
    spoken[-2] = spoken[-2] | {"content": f"{system['content']}\n\n{spoken[-2]['content']}"}
    return spoken


def _stripped(messages: list[Message]) -> list[Message]:
    return [m | {"content": m["content"].strip()} if m["role"] == "assistant" else m for m in messages]


def _marked(messages: list[Message]) -> tuple[list[Message], list[str]]:
    """Replace every reply by a mark of private-use characters; return the marks too."""
    marks = [f"\ue000{index}\ue001" for index, message in enumerate(messages) if message["role"] == "assistant"]
    unused = iter(marks)
    return [m | {"content": next(unused)} if m["role"] == "assistant" else m for m in messages], marks


def _woven(between: list[str], replies: list[str]) -> str:
    return "".join(piece for pair in zip(between, [*replies, ""], strict=True) for piece in pair)


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Match the first special token, with white space before it, where a reply has just ended."""
    tokens = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    return re.compile(r"\s*(?:" + "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) + ")")


def _render(
    where: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase, generation_prompt: bool = False
) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt))
    except TemplateError as error:
        raise InputError(f"{where}: the model's chat template refuses it: {error}") from error
