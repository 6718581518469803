"""Progress of a contender that runs without Ray."""

from __future__ import annotations

import sys
import time

REPORT_EVERY_S = 5.0


class Ticker:
    """Prints a line of progress every few seconds."""

    def __init__(self, name: str) -> None:
        """Take the name of the contender."""
        self.name = name
        self.printed_s = time.monotonic()

    def tick(self, step: int, total: int, loss: float) -> None:
        """Print the step, unless the last line is less than ``REPORT_EVERY_S`` old."""
        if time.monotonic() - self.printed_s >= REPORT_EVERY_S or step == total:
            self.printed_s = time.monotonic()
            # The real stdout: contenders redirect sys.stdout to their log.
            print(f"[warmray] {self.name:<25} {step}/{total} | loss {loss:.3f}", file=sys.__stdout__, flush=True)
