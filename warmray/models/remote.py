"""What is known of a model that is not on disk yet, and what a place that holds one can do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from warmray.storage.hashing import SHORT, digest, file_digest

SAMPLED_BYTES = 1 << 20
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class ModelFile:
    """A file of a model, and digests of its head and tail where they have been read."""

    name: str
    size: int
    sample: tuple[str, ...] = ()

    @classmethod
    def sampled(cls, name: str, size: int, stream: Any) -> ModelFile:
        """Describe an open file: weights of a 70B model are 140 GB, and head and tail tell versions apart."""
        head = stream.read(SAMPLED_BYTES)
        stream.seek(max(0, size - SAMPLED_BYTES))
        return cls(name, size, (digest(head.hex()), digest(stream.read().hex())))

    @classmethod
    def on_disk(cls, path: Path) -> ModelFile:
        """Describe a file on disk."""
        with path.open("rb") as stream:
            return cls.sampled(path.name, path.stat().st_size, stream)


@dataclass(frozen=True)
class RemoteModel:
    """All that another node needs to fetch the same model: small enough to travel with every task."""

    source: str
    revision: str | None
    """The commit of a hub model."""
    digest: str
    small_files: tuple[ModelFile, ...]
    weights: tuple[ModelFile, ...]


class Origin(Protocol):
    """A place that holds one model, unpacked."""

    @property
    def source(self) -> str:
        """The hub id or the address."""

    @property
    def revision(self) -> str | None:
        """The commit, if it is a hub model."""

    @property
    def folder_name(self) -> str:
        """Name of the model's folder in the cache."""

    def sizes(self) -> dict[str, int]:
        """Return the size of every file beside ``config.json``."""

    def describe(self, name: str, size: int) -> ModelFile:
        """Return what makes a listed file known again."""

    def fetch(self, name: str, folder: Path) -> None:
        """Write one file into ``folder``."""

    def digest(self, folder: Path, weights: tuple[ModelFile, ...]) -> str:
        """Return the digest of the model whose small files are in ``folder``."""


def content_digest(folder: Path, weights: Iterable[ModelFile]) -> str:
    """Return the digest of a model whose small files are in ``folder``, and whose weights have been sampled."""
    facts: list[object] = [file_digest(folder / "config.json")]
    facts += [[file.name, file.size, *file.sample] for file in weights]
    facts += [file_digest(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()]
    return digest(facts)[:SHORT]


def slug(text: str) -> str:
    """Return a text as part of a file's name."""
    return re.sub(r"[^\w.-]+", "--", text).strip(".-")
