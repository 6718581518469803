"""How busy the machine is with other processes, and which cores a contender gets.

Other processes slow a bench down. Ray's own twenty wake up about a hundred times a second each: if the training has all
cores, each wake-up stops one of its threads while the others wait.
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
"""Positions of the idle time and the time waiting for disks in the first line of ``/proc/stat``."""


def busy_share(seconds: float = 1.0) -> float:
    """Return the share of all cores that is busy during the next ``seconds``."""
    before = _jiffies()
    time.sleep(seconds)
    idle, total = (after - then for after, then in zip(_jiffies(), before, strict=True))
    return 1 - idle / total


def _jiffies() -> tuple[int, int]:
    """Return the idle time and the total time of all cores since the machine started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    return sum(int(fields[column]) for column in IDLE_COLUMNS), sum(int(field) for field in fields[1:9])


@dataclass(frozen=True)
class Cores:
    """The cores of the training, and those for other processes: all cores if the training leaves none free."""

    training: frozenset[int]
    others: frozenset[int]

    @classmethod
    def for_threads(cls, threads: int) -> Cores:
        """Give every thread of the training its own core."""
        every = sorted(os.sched_getaffinity(0))
        left = frozenset(every[threads:])
        return cls(frozenset(every) - left, left or frozenset(every))


def pin(pid: int, cores: frozenset[int]) -> None:
    """Restrict all threads of a process, and the threads and processes they start later, to some cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # the thread has just ended
            os.sched_setaffinity(int(thread.name), cores)


@contextlib.contextmanager
def pinned_below(name: str, cores: frozenset[int]) -> Iterator[None]:
    """Pin every descendant process whose command line begins with ``name`` as soon as it appears."""
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
