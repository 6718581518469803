"""Where warmray keeps its data: one folder, named by ``WARMRAY_HOME`` (default ``~/.warmray``).

On a cluster it must be a folder that every node can access.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from warmray.errors import InputError, storage_error


def home() -> Path:
    """Return the absolute path of the folder that contains all data.

    Raises:
        InputError: ``WARMRAY_HOME`` is relative, but Ray changes the working directory of every job.
    """
    return _folder_from("WARMRAY_HOME") or Path.home() / ".warmray"


def model_cache() -> Path:
    """Return the absolute path of the cache for downloaded models: ``WARMRAY_MODEL_CACHE``, or ``models`` in the home.

    A fast local disk of each node is the best place. The path that the driver finds is used on every node.

    Raises:
        InputError: the path is relative.
    """
    return _folder_from("WARMRAY_MODEL_CACHE") or home() / "models"


def _folder_from(variable: str) -> Path | None:
    """Return the absolute path in an environment variable; None if it is not set."""
    value = os.environ.get(variable)
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise InputError(f"{variable} is the relative path {value!r}: give an absolute path")
    return path


def make_folder(path: Path) -> Path:
    """Create ``path`` with its parents and check that it is writable.

    Raises:
        InputError: it cannot be created or written.
        InterruptedRunError: the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.NamedTemporaryFile(prefix=".writable-", dir=path).close()
    except OSError as error:
        raise storage_error(error, path) from error
    return path


@contextmanager
def build_folder(folder: Path, write_errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to ``folder`` at the end: readers see all of its files or none.

    If another process creates ``folder`` first, its version stays and this one is dropped.

    Args:
        folder: Must not exist yet.
        write_errors: Exceptions of the block that mean a failed write.

    Raises:
        InputError: the folder cannot be written.
        InterruptedRunError: the disk is full.
    """
    make_folder(folder.parent)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        yield building
        building.chmod(0o755)  # mkdtemp lets nobody else read it
        os.rename(building, folder)
    except write_errors as error:
        shutil.rmtree(building, ignore_errors=True)
        if not folder.exists():
            raise storage_error(error, folder.parent) from error


def only_one_at(folder: Path) -> FileLock:
    """Return a lock that lets one process at a time create ``folder``."""
    return FileLock(f"{folder}.lock")


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically: readers see all of it or none."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
