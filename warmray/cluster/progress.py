"""Progress that a person can read: stage, done of total, speed, time left - one line every few seconds.

Workers post to a small Ray actor; the driver prints what changed. Nothing waits for a post to arrive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

PRINT_EVERY_S = 5.0
PREFIX = "[warmray] "


@dataclass(frozen=True)
class Update:
    """One post: ``done`` of ``total`` units of ``stage``, with tokens since the stage began and a short remark."""

    stage: str
    done: float
    total: float
    tokens: int = 0
    remark: str = ""
    elapsed_s: float = 0.0
    done_before: float = 0.0
    """Filled in by the board: seconds since the stage's first post, and how much was done by then."""


class _Board:
    """Keeps the latest post of every stage; what was done before a stage (re)started counts for no speed."""

    def __init__(self) -> None:
        self.latest: dict[str, Update] = {}
        self.first: dict[str, tuple[float, Update]] = {}

    def post(self, update: Update) -> None:
        latest = self.latest.get(update.stage)
        if latest is None or update.done < latest.done:  # begun, or begun again after a failure
            self.first[update.stage] = (time.monotonic(), update)
        started, first = self.first[update.stage]
        self.latest[update.stage] = replace(
            update,
            elapsed_s=time.monotonic() - started,
            tokens=update.tokens - first.tokens,
            done_before=first.done,
        )

    def read(self) -> list[Update]:
        return list(self.latest.values())


Post = Callable[[Update], None]


def ignore(update: Update) -> None:
    """Take a post and do nothing: for runs that nobody watches."""


class Progress:
    """The driver's side: owns the actor and prints from a thread until the block ends."""

    def __init__(self) -> None:
        """Start the actor; Ray must be running."""
        # Beside the driver: a node of workers may be lost, and the run goes on without it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.board: Any = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self._printed: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._print_until_stopped, daemon=True)

    @property
    def post(self) -> Post:
        """A function that workers call; it can be pickled."""
        return Poster(self.board)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _print_until_stopped(self) -> None:
        while not self._stop.wait(PRINT_EVERY_S):
            self._print_changes()
        self._print_changes()

    def _print_changes(self) -> None:
        try:
            updates: list[Update] = ray.get(self.board.read.remote(), timeout=PRINT_EVERY_S)
        except Exception:  # the cluster is going down: progress must never be what fails a run
            return
        for update in updates:
            if self._printed.get(update.stage) != update.done:
                self._printed[update.stage] = update.done
                print(PREFIX + render(update), flush=True)


class Poster:
    """Posts to the board from any process."""

    def __init__(self, board: Any) -> None:
        """Take the board's actor handle."""
        self.board = board

    def __call__(self, update: Update) -> None:
        """Post without waiting."""
        self.board.post.remote(update)


def render(update: Update) -> str:
    """Return one line: stage, done/total, remark, tokens/s and time left."""
    parts = [f"{update.stage:<25} {update.done:g}/{update.total:g}"]
    if update.remark:
        parts.append(update.remark)
    if update.tokens and update.elapsed_s > 0:
        parts.append(f"{update.tokens / update.elapsed_s:.0f} tokens/s")
    done_since = update.done - update.done_before
    if done_since > 0 and update.done < update.total:
        left = update.elapsed_s / done_since * (update.total - update.done)
        parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
    elif update.done >= update.total:
        parts.append(f"done in {update.elapsed_s:.0f} s")
    return " | ".join(parts)
