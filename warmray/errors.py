"""What can go wrong, and the exit code each failure ends with."""

from __future__ import annotations

import errno
import os
import select
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn

READER_GONE = 128 + 13
"""Exit code where nobody read the output to its end, as of any program that SIGPIPE ends."""
DISK_FULL_SIGNS = (
    *(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)),
    "database or disk is full",
    "PytorchStreamWriter failed writing file",
)


class WarmrayError(Exception):
    """A failure that one line explains; ``exit_code`` is what the process ends with."""

    exit_code = 70


class InputError(WarmrayError):
    """Something a person gave is wrong: the message says what, where and how to fix it."""

    exit_code = 2


class ManipulationCheckError(WarmrayError):
    """Training did not make the model measurably warmer, so a cost of warmth cannot be measured."""

    exit_code = 4


class InterruptedRunError(WarmrayError):
    """The run stopped early; the same command continues from what is finished."""

    exit_code = 5


def nearest(word: str, known: list[str]) -> str:
    """Return a ready ``"; did you mean 'x'?"`` hint, or an empty string when nothing is near."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def storage_error(error: BaseException, folder: object) -> WarmrayError:
    """Turn a failed write below ``folder`` into the error a person can act on."""
    if is_disk_full(error):
        return InterruptedRunError(
            f"disk full while writing {folder}: free some space (or point WARMRAY_HOME elsewhere) and run the same "
            "command again; what was finished before is kept"
        )
    reason = getattr(error, "strerror", None) or error
    return InputError(
        f"cannot write to {folder} ({reason}): make it writable or point WARMRAY_HOME at a folder that is"
    )


def is_disk_full(error: BaseException) -> bool:
    """Return whether a failure comes from a full disk.

    Safetensors, SQLite, torch and Ray each raise types of their own, some in other processes: only the words are alike.
    """
    return any(sign in str(error) for sign in DISK_FULL_SIGNS)


def root_cause(error: BaseException) -> BaseException:
    """Follow Ray's and Python's exception chains down to a :class:`WarmrayError`, if there is one."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        current = pending.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        if isinstance(current, WarmrayError):
            return current
        seen.add(id(current))
        pending += [getattr(current, "cause", None), current.__cause__, current.__context__]
        pending += list((getattr(current, "worker_failures", None) or {}).values())
    return error


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` and end the process with its exit code, or with the code of the error it raised."""
    try:
        code = main()
    except KeyboardInterrupt:
        print("warmray: stopped; the same command continues from here", file=sys.stderr)
        code = InterruptedRunError.exit_code
    except BrokenPipeError as error:
        code = READER_GONE if _has_no_reader(sys.stdout.fileno()) else _reported(error)
    except SystemExit as end:  # rich ends the process itself, with 1, where nobody reads what it prints
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = READER_GONE
    except Exception as error:
        code = _reported(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = READER_GONE
    if code == READER_GONE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    sys.exit(code)


def _reported(error: Exception) -> int:
    """Print what went wrong, and return the exit code: one line for what people cause, a traceback for a bug."""
    cause = root_cause(error)
    if not isinstance(cause, WarmrayError) and is_disk_full(error):
        cause = storage_error(error, "below WARMRAY_HOME")
    if isinstance(cause, WarmrayError):
        print(f"warmray: error: {cause}", file=sys.stderr)
        return cause.exit_code
    traceback.print_exception(error)
    print("warmray: internal error: please report the lines above", file=sys.stderr)
    return WarmrayError.exit_code


def _has_no_reader(descriptor: int) -> bool:
    """Return whether a pipe's other end is closed, as in ``warmray plan | head -3``."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
