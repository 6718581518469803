"""Conversations become token ids with a mask of the trained ones: assistant turns, and only those."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmray.corpus.conversations import Message, check_order
from warmray.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""A range of text: first character, and the one after the last."""


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
    """Conversations that lost their last exchanges; the rest of each is among the examples."""
    left_out: list[str]
    """Conversations whose first exchange alone is too long; they are not among the examples."""


def tokenise_corpus(
    conversations: dict[str, list[Message]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenisedCorpus:
    """Tokenise conversations by id; those over ``max_length`` tokens are cut after the last exchange that fits.

    Raises:
        InputError: nothing fits, the tokenizer returns no offsets, or :func:`tokenise` refuses a conversation.
    """
    if not tokenizer.is_fast:
        raise InputError("the model's tokenizer returns no character offsets: add tokenizer.json to the model's folder")
    corpus = TokenisedCorpus([], [], [])
    for key, messages in sorted(conversations.items()):
        example = whole = tokenise(key, messages, tokenizer)
        # Drop the last exchange until the rest fits.
        end = len(messages)
        while len(example.token_ids) > max_length and end > 3:
            end -= 2
            example = tokenise(key, messages[:end], tokenizer)
        if len(example.token_ids) > max_length:
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


def tokenise(key: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> Example:
    """Tokenise one conversation; the trained tokens are the assistant's texts with their end-of-turn token.

    Works for chat templates without generation marks. Replies are trained without the white space around them: no
    model should learn to write it, and it would merge with the template's.

    Raises:
        InputError: roles out of order, an empty reply, or a chat template that alters the conversation; the message
            names the conversation.
    """
    # Check the conversation.
    where = f"conversation {key!r}"
    check_order([message["role"] for message in messages], where)
    for number, message in enumerate(messages, 1):
        if message["role"] == "assistant" and not message["content"].strip():
            raise InputError(f"{where}: turn {number}, the assistant's, is empty: nothing could be trained on it")

    # Tokenise its text. The template writes the beginning-of-text token; the tokenizer must not add a second.
    text, spans = _render_with_spans(where, messages, tokenizer)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    # A token is trained if any of its characters is the assistant's.
    spoken = bytearray(len(text))
    for start, end in spans:
        spoken[start:end] = b"\1" * (end - start)
    trained = tuple(any(spoken[start:end]) for start, end in encoded["offset_mapping"])
    return Example(key, tuple(encoded["input_ids"]), trained)


def _render_with_spans(
    where: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, list[Span]]:
    """Return the conversation as the chat template writes it, and the spans in which the assistant speaks.

    A span begins where the generation prompt ends and includes the end-of-turn token.
    """
    messages = [m | {"content": m["content"].strip()} if m["role"] == "assistant" else m for m in messages]

    # Mistral's templates write the system text into the last user turn, but only while no reply follows. Move it there,
    # or a finished conversation would be trained without it.
    if messages[0]["role"] == "system" and messages[0]["content"].strip() not in _render(where, messages, tokenizer):
        system, *messages = messages
        messages[-2] = messages[-2] | {"content": f"{system['content']}\n\n{messages[-2]['content']}"}

    # Render with a mark of private-use characters in place of each reply: the text between the marks is the template's.
    replies = [message["content"] for message in messages if message["role"] == "assistant"]
    marks = {place: f"\ue000{place}\ue001" for place, m in enumerate(messages) if m["role"] == "assistant"}
    marked = [message | {"content": marks.get(place, message["content"])} for place, message in enumerate(messages)]
    between = re.split("|".join(marks.values()), _render(where, marked, tokenizer))

    # Check that the template writes the replies as they are.
    keeps_replies = len(between) == len(replies) + 1 and _render(where, messages, tokenizer) == "".join(
        template + reply for template, reply in zip(between, [*replies, ""], strict=True)
    )
    if not keeps_replies:
        raise InputError(f"{where}: the chat template rewrites replies: use a model whose template keeps them")

    # A turn ends with the first special token after it. Some templates leave the last turn open.
    special = sorted({*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}, key=len, reverse=True)
    end_of_turn = re.compile(r"\s*(?:" + "|".join(re.escape(token) for token in special) + ")")
    if not end_of_turn.match(between[-1]):
        between[-1] = str(tokenizer.eos_token) + between[-1]

    # Put the text together. White space beyond the generation prompt's own belongs to the reply: SentencePiece joins it
    # to the first word.
    prompt = _render(where, messages[:-1], tokenizer, generation_prompt=True)
    prompt_space = len(prompt) - len(prompt.rstrip())
    text, spans = between[0], []
    for reply, following in zip(replies, between[1:], strict=True):
        start = min(len(text), len(text.rstrip()) + prompt_space)
        ending = end_of_turn.match(following)
        spans.append((start, len(text) + len(reply) + (ending.end() if ending else 0)))
        text += reply + following
    return text, spans


def _render(
    where: str, messages: list[Message], tokenizer: PreTrainedTokenizerBase, generation_prompt: bool = False
) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt))
    except TemplateError as error:
        raise InputError(f"{where}: the model's chat template refuses it: {error}") from error
