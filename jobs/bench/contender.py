"""One contender in its own process: ``python -m jobs.bench.contender NAME TASK RESULT``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from jobs.bench.bench_result import Contender, Run
from jobs.bench.contender_task import BenchTask
from jobs.bench.machine import Cores, pin
from warmray.command_line import job
from warmray.quiet import quiet_libraries
from warmray.storage.home import write_whole

TASK: TypeAdapter[BenchTask] = TypeAdapter(BenchTask)
RUN: TypeAdapter[Run] = TypeAdapter(Run)


def run_contender(name: Contender, task: BenchTask) -> Run:
    """Train as one contender does; imports only what that contender needs."""
    if name == "ours":
        from jobs.bench.ours import run_ours

        return run_ours(task)
    if name == "bare":
        from jobs.bench.bare import run_bare

        return run_bare(task)
    if name == "torch":
        from jobs.bench.plain import run_plain

        return run_plain(task)
    from jobs.bench.trl import run_trl

    return run_trl(task, packing=name != "trl", recompute=name != "trl-tuned")


def contender_job(name: str, task: Path, result: Path) -> int:
    """Run the contender NAME on the task in a file, and write its run to another file."""
    read = TASK.validate_json(task.read_text(encoding="utf-8"))
    quiet_libraries()
    if name != "ours":
        pin(os.getpid(), Cores.for_threads(read.threads).training)

    # Library output goes to the log. Under Ray libraries print in the worker, and stdout shows the driver's progress.
    with contextlib.redirect_stdout(sys.stdout if name == "ours" else sys.stderr):
        run = run_contender(cast(Contender, name), read)
    write_whole(result, RUN.dump_json(run).decode())
    return 0


if __name__ == "__main__":
    job(contender_job)
