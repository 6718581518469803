"""How busy the machine is with other things, and which cores a contender gets.

A bench on a shared machine measures the others too. Ray's twenty processes wake up a hundred times a second each:
where training has all cores, every one of them stops a thread that the others then wait for.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

IDLE_COLUMNS = (4, 5)
"""Idle, and waiting for a disk, in the first line of ``/proc/stat``."""


def busy_share(seconds: float = 1.0) -> float:
    """Return the share of all cores that works during the next ``seconds``."""
    before = _jiffies()
    time.sleep(seconds)
    idle, total = (after - then for after, then in zip(_jiffies(), before, strict=True))
    return 1 - idle / total


def _jiffies() -> tuple[int, int]:
    """Return idle and all time of the cores since the machine started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    return sum(int(fields[column]) for column in IDLE_COLUMNS), sum(int(field) for field in fields[1:9])


@dataclass(frozen=True)
class Cores:
    """Which cores train, and which are left for what runs beside: all of them where none is left."""

    training: frozenset[int]
    beside: frozenset[int]

    @classmethod
    def for_threads(cls, threads: int) -> Cores:
        """Give every thread of a training a core of its own."""
        every = sorted(os.sched_getaffinity(0))
        left = frozenset(every[threads:])
        return cls(frozenset(every) - left, left or frozenset(every))


def pin(pid: int, cores: frozenset[int]) -> None:
    """Keep all threads of a process, and what they start from now on, on some cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread that has just ended
            os.sched_setaffinity(int(thread.name), cores)


@contextlib.contextmanager
def pinned_below(name: str, cores: frozenset[int]) -> Iterator[None]:
    """Pin every process below this one whose command line begins with a name, as soon as it is there."""
    done = threading.Event()
    pinned: set[int] = set()

    def watch() -> None:
        while not done.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, FileNotFoundError):
                    if process.pid not in pinned and " ".join(process.cmdline()).startswith(name):
                        pin(process.pid, cores)
                        pinned.add(process.pid)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
