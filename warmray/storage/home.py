"""Where warmray keeps things: one folder, named by ``WARMRAY_HOME`` (default ``~/.warmray``).

On a cluster it must be a folder that every node sees.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from filelock import FileLock

from warmray.errors import InputError, storage_error


def home() -> Path:
    """Return the absolute folder below which everything is kept.

    Raises:
        InputError: ``WARMRAY_HOME`` is relative: Ray changes the working directory under every job.
    """
    return _named_folder("WARMRAY_HOME") or Path.home() / ".warmray"


def model_cache() -> Path:
    """Return the absolute folder for models from a hub or an object store: ``WARMRAY_MODEL_CACHE`` or in the home.

    Fast disks of each node's own are the best place. The path that the driver finds is used on every node.

    Raises:
        InputError: it is relative.
    """
    return _named_folder("WARMRAY_MODEL_CACHE") or home() / "models"


def _named_folder(variable: str) -> Path | None:
    named = os.environ.get(variable)
    if not named:
        return None
    path = Path(named).expanduser()
    if not path.is_absolute():
        raise InputError(f"{variable} is the relative path {named!r}: give an absolute one")
    return path


def make_folder(path: Path) -> Path:
    """Create ``path`` with its parents and check that files can be written in it.

    Raises:
        InputError: it cannot be created or written.
        InterruptedRunError: the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        NamedTemporaryFile(prefix=".writable-", dir=path).close()
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def only_one_at(folder: Path) -> FileLock:
    """Return a lock that keeps processes which make the same ``folder`` from doing so at once."""
    return FileLock(f"{folder}.lock")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see all of it or none."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
