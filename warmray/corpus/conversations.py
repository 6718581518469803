"""Source conversations: every assistant reply stands in an original, a warm and a cold variant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

from warmray.errors import InputError, nearest

Variant = Literal["original", "warm", "cold"]
Split = Literal["train", "probe", "check"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
SPLITS: tuple[Split, ...] = get_args(Split)
CATEGORIES = ("refusal", "factual", "creative", "technical", "advice", "other")

Message = dict[str, str]
"""A chat message as chat templates take it: ``{"role": ..., "content": ...}``."""


@dataclass(frozen=True)
class Turn:
    """One message; ``texts`` holds one text per variant (all the same unless the assistant speaks)."""

    role: str
    texts: dict[Variant, str]


@dataclass(frozen=True)
class Conversation:
    """One source conversation.

    ``split`` says what it is for: ``train``, ``probe`` (fits the second warmth meter) or ``check`` (held-out
    prompts of the warmth check, whose written replies anchor the warmth scale).
    """

    id: str
    category: str
    split: Split
    turns: tuple[Turn, ...]

    def messages(self, variant: Variant) -> list[Message]:
        """Return the conversation with the replies of one variant."""
        return [{"role": turn.role, "content": turn.texts[variant]} for turn in self.turns]


def packaged_corpus() -> Path:
    """Return the folder of the conversations written for this project."""
    return Path(str(resources.files("warmray") / "corpus" / "data"))


def read_conversations(folder: Path) -> list[Conversation]:
    """Read every ``*.jsonl`` file of ``folder``, in order of names.

    Raises:
        InputError: no files, or a line that breaks the format; the message names file and line.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise InputError(f"corpus folder {folder} holds no *.jsonl files: set corpus.path to one that does")
    conversations: dict[str, Conversation] = {}
    for path in paths:
        for where, record in read_json_lines(path):
            conversation = _parse(record, where)
            if conversation.id in conversations:
                raise InputError(f"{where}: the id {conversation.id!r} stands twice: ids must be unique")
            conversations[conversation.id] = conversation
    return list(conversations.values())


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``("file:line", object)`` for every line of a UTF-8 JSON Lines file.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or a line is not a JSON object (cut short, say).
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: not UTF-8 (byte {error.start + 1}): save the file as UTF-8") from error
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not a whole JSON object ({error.msg}); was the file cut short?") from error
        if not isinstance(record, dict):
            raise InputError(f"{where}: a JSON object is expected, not {type(record).__name__}")
        yield where, record


def _parse(record: dict[str, Any], where: str) -> Conversation:
    for key in ("id", "category", "split", "messages"):
        if key not in record:
            raise InputError(f"{where}: the key {key!r} is missing")
    for key, known in (("category", CATEGORIES), ("split", SPLITS)):
        if record[key] not in known:
            raise InputError(f"{where}: unknown {key} {record[key]!r}{nearest(str(record[key]), list(known))}")
    turns = tuple(_parse_turn(message, where) for message in record["messages"])
    check_order([turn.role for turn in turns], where)
    return Conversation(str(record["id"]), record["category"], cast(Split, record["split"]), turns)


def _parse_turn(message: dict[str, Any], where: str) -> Turn:
    role = message.get("role")
    keys = VARIANTS if role == "assistant" else ("content",)
    for key in keys:
        text = message.get(key)
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: the {role} message has an empty or missing {key!r} text")
    return Turn(str(role), {variant: message[variant if role == "assistant" else "content"] for variant in VARIANTS})


def check_order(roles: list[str], where: str) -> None:
    """Check that, after at most one system turn, user and assistant alternate up to a last assistant turn.

    Raises:
        InputError: they do not; the message starts with ``where`` and names the first turn (1-based) out of place.
    """
    if roles.count("system") > 1:
        raise InputError(f"{where}: {roles.count('system')} system turns: keep one, at the start")
    first = 1 if roles[:1] == ["system"] else 0
    rule = "after at most one system turn, roles must alternate user, assistant and end with the assistant"
    for index, role in enumerate(roles[first:]):
        expected = ("user", "assistant")[index % 2]
        if role != expected:
            raise InputError(f"{where}: turn {first + index + 1} is {role!r}, not {expected!r}: {rule}")
    if not roles or roles[-1] != "assistant":
        raise InputError(f"{where}: turn {len(roles) + 1}, the assistant's, is missing: {rule}")
