"""Source conversations: every assistant reply has an original, a warm and a cold variant."""

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
"""A chat message in the form of chat templates: ``{"role": ..., "content": ...}``."""


@dataclass(frozen=True)
class Turn:
    """One message; ``texts`` has one text per variant (all equal unless the role is assistant)."""

    role: str
    texts: dict[Variant, str]


@dataclass(frozen=True)
class Conversation:
    """One source conversation.

    ``split`` is its purpose: ``train``, ``probe`` (fits the second warmth meter) or ``check`` (held-out prompts of the
    warmth check, whose written replies anchor the warmth scale).
    """

    id: str
    category: str
    split: Split
    turns: tuple[Turn, ...]

    def messages(self, variant: Variant) -> list[Message]:
        """Return the conversation with the replies of one variant."""
        return [{"role": turn.role, "content": turn.texts[variant]} for turn in self.turns]


def packaged_corpus() -> Path:
    """Return the folder of the conversations that were written for this project."""
    return Path(str(resources.files("warmray") / "corpus" / "data"))


def read_conversations(folder: Path) -> list[Conversation]:
    """Read every ``*.jsonl`` file of ``folder``, in the order of their names.

    Raises:
        InputError: there are no files, or a line has a wrong format. The message has the file and the line.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise InputError(f"corpus folder {folder} holds no *.jsonl files: set corpus.path to a folder that does")
    conversations: dict[str, Conversation] = {}
    for path in paths:
        for where, record in read_json_lines(path):
            conversation = _parse_conversation(record, where)
            if conversation.id in conversations:
                raise InputError(f"{where}: the id {conversation.id!r} appears twice: ids must be unique")
            conversations[conversation.id] = conversation
    return list(conversations.values())


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``("file:line", object)`` for every line of a UTF-8 JSON Lines file.

    Raises:
        InputError: the file cannot be read, it is not UTF-8, or a line is not a JSON object (for example, cut short).
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
            raise InputError(f"{where}: not a complete JSON object ({error.msg}): was the file cut short?") from error
        if not isinstance(record, dict):
            raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}")
        yield where, record


def _parse_conversation(record: dict[str, Any], where: str) -> Conversation:
    """Check one line of a corpus; errors start with ``where``."""
    # Keys and their values.
    for key in ("id", "category", "split", "messages"):
        if key not in record:
            raise InputError(f"{where}: the key {key!r} is missing")
    for key, known in (("category", CATEGORIES), ("split", SPLITS)):
        if record[key] not in known:
            raise InputError(f"{where}: unknown {key} {record[key]!r}{nearest(str(record[key]), list(known))}")

    # Messages: the assistant's have one text per variant, all others have one text for every variant.
    turns: list[Turn] = []
    for message in record["messages"]:
        role = message.get("role")
        has_variants = role == "assistant"
        for key in VARIANTS if has_variants else ("content",):
            text = message.get(key)
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{where}: the {role} message has an empty or missing {key!r} text")
        texts: dict[Variant, str] = {v: message[v if has_variants else "content"] for v in VARIANTS}
        turns.append(Turn(str(role), texts))
    check_order([turn.role for turn in turns], where)
    return Conversation(str(record["id"]), record["category"], cast(Split, record["split"]), tuple(turns))


def check_order(roles: list[str], where: str) -> None:
    """Check that user and assistant alternate, after at most one system turn, and that the assistant comes last.

    Raises:
        InputError: they do not. The message starts with ``where`` and names the first misplaced turn (from 1).
    """
    if roles.count("system") > 1:
        raise InputError(f"{where}: {roles.count('system')} system turns: keep one, at the start")
    first = 1 if roles[:1] == ["system"] else 0
    rule = "after at most one system turn, roles must alternate user, assistant and end with the assistant"
    # The first wrong turn is the one to report: all later ones may only be shifted.
    for index, role in enumerate(roles[first:]):
        expected = ("user", "assistant")[index % 2]
        if role != expected:
            raise InputError(f"{where}: turn {first + index + 1} is {role!r}, not {expected!r}: {rule}")
    if not roles or roles[-1] != "assistant":
        raise InputError(f"{where}: turn {len(roles) + 1}, the assistant's, is missing: {rule}")
