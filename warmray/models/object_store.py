"""A model in a folder of an object store."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from warmray.errors import InputError, is_disk_full, storage_error
from warmray.models.remote import ModelFile, content_digest, slug
from warmray.storage.hashing import digest
from warmray.storage.home import model_cache

COPIED_BYTES = 16 << 20
STORE_RETRY_S = 60


@dataclass(frozen=True)
class ObjectStore:
    """One folder, by its address."""

    source: str
    revision: None = None

    @property
    def folder_name(self) -> str:
        """Name of the model's folder in the cache."""
        url = urlsplit(self.source)
        name = f"{url.netloc}{url.path}".rstrip("/").rpartition("/")[2]
        return f"{slug(name)}-{digest(self.source)}"

    @cached_property
    def _place(self) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem

        address = self.source
        if address.startswith("gs:") and "retry_limit_seconds" not in address:  # else it tries for 15 minutes
            address += f"{'&' if '?' in address else '?'}retry_limit_seconds={STORE_RETRY_S}"
        with _store_errors(self.source):
            filesystem, path = FileSystem.from_uri(address)
        return filesystem, path.rstrip("/")

    def sizes(self) -> dict[str, int]:
        """Return the size of every file beside ``config.json``."""
        from pyarrow.fs import FileSelector

        filesystem, path = self._place
        with _store_errors(self.source):
            entries = filesystem.get_file_info(FileSelector(path))
        return {entry.base_name: entry.size for entry in entries if entry.is_file}

    def describe(self, name: str, size: int) -> ModelFile:
        """Return what makes a listed file known again."""
        filesystem, path = self._place
        with _store_errors(self.source), filesystem.open_input_file(f"{path}/{name}") as stream:
            return ModelFile.sampled(name, size, stream)

    def fetch(self, name: str, folder: Path) -> None:
        """Write one file into ``folder``."""
        filesystem, path = self._place
        with (
            _store_errors(f"{self.source.rstrip('/')}/{name}"),
            filesystem.open_input_stream(f"{path}/{name}") as stream,
            (folder / name).open("wb") as copy,
        ):
            shutil.copyfileobj(stream, copy, COPIED_BYTES)

    def digest(self, folder: Path, weights: tuple[ModelFile, ...]) -> str:
        """Return the digest of the model whose small files are in ``folder``."""
        return content_digest(folder, weights)


@contextlib.contextmanager
def _store_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, NotImplementedError) as error:
        if is_disk_full(error):
            raise storage_error(error, model_cache()) from error
        missing = isinstance(error, FileNotFoundError) or "NO_SUCH" in str(error)
        reason = "there is no such folder" if missing else " ".join(str(error).split())[:200]
        raise InputError(
            f"cannot read {address} ({reason}): check the address, the network and that this machine may read it "
            "(for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)"
        ) from error
