"""Where warmray keeps things: one folder, named by ``WARMRAY_HOME`` (default ``~/.warmray``).

On a cluster it must be a folder that every node sees.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock

from warmray.errors import InputError, storage_error


def home() -> Path:
    """Return the absolute folder below which everything is kept.

    Raises:
        InputError: ``WARMRAY_HOME`` is relative: Ray changes the working directory under every job.
    """
    named = os.environ.get("WARMRAY_HOME")
    path = Path(named).expanduser() if named else Path.home() / ".warmray"
    if not path.is_absolute():
        raise InputError(f"WARMRAY_HOME is the relative path {named!r}: give an absolute one")
    return path


def make_folder(path: Path) -> Path:
    """Create ``path`` with its parents and check that files can be written in it.

    Raises:
        InputError: it cannot be created or written.
        InterruptedRunError: the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
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
