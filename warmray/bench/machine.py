"""How busy the machine is with other things: a bench on a shared machine measures the others too."""

from __future__ import annotations

import time
from pathlib import Path

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
