"""Progress that a person can read: stage, done of total, speed, time left.

Workers post an :class:`Update` to a small Ray actor, the board, and never wait for it. The board works out the
:class:`Status` of every stage. The driver shows what changed: bars on a terminal, plain lines in a job's log. Whoever
follows that log turns its lines back into a status with :func:`parse` and draws the same bars.
"""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich import progress as rich_progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

PREFIX = "[warmray] "
LINES_EVERY_S = 5.0
BARS_EVERY_S = 0.5


@dataclass(frozen=True)
class Update:
    """What a worker posts: ``done`` of ``total`` units of a stage, and a short remark."""

    stage: str
    done: float
    total: float
    tokens: int = 0
    """Tokens processed since the worker began the stage; 0 where tokens are not counted."""
    remark: str = ""


@dataclass(frozen=True)
class Status:
    """What is shown of a stage. A line of a job's log holds all of it."""

    stage: str
    done: float
    total: float
    tokens_per_second: int | None = None
    seconds_left: int | None = None
    """None before the speed is known, and when the stage is finished."""
    seconds_taken: int | None = None
    """None until the stage is finished."""
    remark: str = ""

    @property
    def finished(self) -> bool:
        """Whether the stage is finished."""
        return self.done >= self.total


Post = Callable[[Update], None]


def ignore(update: Update) -> None:
    """Take a post and do nothing: for runs that nobody watches."""


@dataclass(frozen=True)
class _Posted:
    at_s: float
    update: Update


class Board:
    """Keeps the first and the latest post of every stage, and when they came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock, in seconds."""
        self._clock = clock
        self._first: dict[str, _Posted] = {}
        self._latest: dict[str, _Posted] = {}

    def post(self, update: Update) -> None:
        """Take a post. A stage that went back was restarted after a failure: its speed is counted from there."""
        posted = _Posted(self._clock(), update)
        latest = self._latest.get(update.stage)
        if latest is None or update.done < latest.update.done:
            self._first[update.stage] = posted
        self._latest[update.stage] = posted

    def read(self) -> list[Status]:
        """Return the status of every stage; what was done before a stage's first post counts for no speed."""
        return [_status(self._first[stage], latest) for stage, latest in self._latest.items()]


def _status(first: _Posted, latest: _Posted) -> Status:
    update, elapsed_s = latest.update, latest.at_s - first.at_s
    tokens, done = update.tokens - first.update.tokens, update.done - first.update.done
    finished = update.done >= update.total
    return Status(
        " ".join(update.stage.split()),
        update.done,
        update.total,
        tokens_per_second=round(tokens / elapsed_s) if tokens and elapsed_s > 0 else None,
        seconds_left=int(elapsed_s / done * (update.total - update.done)) if done > 0 and not finished else None,
        seconds_taken=round(elapsed_s) if finished else None,
        remark=" ".join(update.remark.split()),  # a line of the log must stay one line
    )


def render(status: Status) -> str:
    """Return the line of a job's log that says a status; :func:`parse` reads it."""
    return f"{PREFIX}{status.stage:<25} {_figures(status)}"


def _figures(status: Status) -> str:
    parts = [f"{status.done:.12g}/{status.total:.12g}"]
    if status.tokens_per_second is not None:
        parts.append(f"{status.tokens_per_second} tokens/s")
    if status.seconds_left is not None:
        parts.append(f"{_clock_text(status.seconds_left)} left")
    if status.seconds_taken is not None:
        parts.append(f"done in {_clock_text(status.seconds_taken)}")
    return " | ".join(parts) + (f" - {status.remark}" if status.remark else "")


_LINE = re.compile(
    re.escape(PREFIX) + r"(?P<stage>.*?) +(?P<done>[\d.e+-]+)/(?P<total>[\d.e+-]+)"
    r"(?: \| (?P<speed>\d+) tokens/s)?(?: \| (?P<left>[\d:]+) left)?(?: \| done in (?P<taken>[\d:]+))?"
    r"(?: - (?P<remark>.+))?"
)


def parse(line: str) -> Status | None:
    """Return the status that a line of a job's log says, or None if it says something else: undoes :func:`render`."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    return Status(
        match["stage"],
        float(match["done"]),
        float(match["total"]),
        tokens_per_second=int(match["speed"]) if match["speed"] else None,
        seconds_left=_seconds(match["left"]) if match["left"] else None,
        seconds_taken=_seconds(match["taken"]) if match["taken"] else None,
        remark=match["remark"] or "",
    )


def _clock_text(seconds: int) -> str:
    """Return ``m:ss``, or ``h:mm:ss`` from one hour on."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _seconds(clock_text: str) -> int:
    seconds = 0
    for part in clock_text.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds


class Display:
    """Shows statuses and other lines: bars below the lines on a terminal, and plain lines anywhere else."""

    def __init__(self) -> None:
        """Look at standard output; nothing is drawn before the block begins."""
        bars = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False, table_column=_one_line(max_width=30)),
            rich_progress.BarColumn(bar_width=14),
            rich_progress.TextColumn("{task.fields[figures]}", markup=False, table_column=_one_line(ratio=1)),
            console=Console(),
            expand=True,
            transient=True,  # a finished stage leaves its line; bars of an interrupted run would only be in the way
        )
        self._bars = bars if sys.stdout.isatty() and bars.console.is_interactive else None
        self._tasks: dict[str, rich_progress.TaskID] = {}

    @property
    def has_bars(self) -> bool:
        """Whether bars are drawn."""
        return self._bars is not None

    def __enter__(self) -> Display:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def show(self, status: Status) -> None:
        """Show the newest status of a stage."""
        if self._bars is None:
            self.say(render(status))
        elif status.finished:
            if status.stage in self._tasks:
                self._bars.remove_task(self._tasks.pop(status.stage))
            self.say(render(status))
        else:
            if status.stage not in self._tasks:
                self._tasks[status.stage] = self._bars.add_task(status.stage, figures="", visible=False)
            task, figures = self._tasks[status.stage], _figures(status)
            self._bars.update(task, completed=status.done, total=status.total, figures=figures, visible=True)

    def follow(self, line: str) -> None:
        """Show a line of a job's log: as a bar where bars are drawn and it says progress, else as it is."""
        status = parse(line) if self.has_bars else None
        if status is None:
            self.say(line)
        else:
            self.show(status)

    def say(self, line: str) -> None:
        """Print a line as it is, above the bars if there are any; nothing in it is read as markup."""
        if self._bars:
            self._bars.console.print(Text.from_ansi(line), soft_wrap=True)
        else:
            print(line, flush=True)


def _one_line(**settings: Any) -> Column:
    return Column(no_wrap=True, overflow="ellipsis", **settings)


def showing_post(display: Display, clock: Callable[[], float] = time.monotonic) -> Post:
    """Return a post for a process without Ray: it shows a stage's first and last update, and others now and then."""
    board, shown_at = Board(clock), dict[str, float]()
    every_s = BARS_EVERY_S if display.has_bars else LINES_EVERY_S

    def post(update: Update) -> None:
        board.post(update)
        status = next(status for status in board.read() if status.stage == " ".join(update.stage.split()))
        if status.finished or clock() - shown_at.get(status.stage, -math.inf) >= every_s:
            shown_at[status.stage] = clock()
            display.show(status)

    return post


class Progress:
    """The driver's side: owns the board and shows it from a thread until the block ends."""

    def __init__(self) -> None:
        """Start the board's actor; Ray must be running."""
        # Beside the driver: a node of workers may be lost, and the run goes on without it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board: Any = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self._display = Display()
        self._shown: dict[str, Status] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show_until_stopped, daemon=True)

    @property
    def post(self) -> Post:
        """A function that workers call; it can be pickled."""
        return Poster(self._board)

    def __enter__(self) -> Progress:
        self._display.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._display.__exit__()

    def _show_until_stopped(self) -> None:
        while not self._stop.wait(BARS_EVERY_S if self._display.has_bars else LINES_EVERY_S):
            self._show_changes()
        self._show_changes()

    def _show_changes(self) -> None:
        try:
            statuses: list[Status] = ray.get(self._board.read.remote(), timeout=LINES_EVERY_S)
        except Exception:  # the cluster is going down: progress must never be what fails a run
            return
        for status in statuses:
            if self._shown.get(status.stage) != status:
                self._shown[status.stage] = status
                self._display.show(status)


class Poster:
    """Posts to the board from any process."""

    def __init__(self, board: Any) -> None:
        """Take the board's actor handle."""
        self.board = board

    def __call__(self, update: Update) -> None:
        """Post without waiting."""
        self.board.post.remote(update)
