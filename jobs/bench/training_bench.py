"""The training bench: runs contenders one after the other, each in its own process, and compares their speed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

from jobs.bench.bench_result import LABELS, Contender, Failure, Outcome, Setting, comparison_text, reason_without_figure
from jobs.bench.contender import RUN, TASK
from jobs.bench.contender_task import BenchTask, counted, make_task, read_bench_workload
from jobs.bench.machine import busy_share
from warmray.config import RunConfig
from warmray.errors import InputError, WarmrayError, nearest
from warmray.models.loading import best_device, resolve_model
from warmray.quiet import QUIET_ENVIRONMENT
from warmray.storage.home import home, make_folder, write_whole
from warmray.training.placement import read_base

NOT_FOR_CONTENDERS = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
"""Unset for contenders: a bench runs on this machine alone and writes nothing to the team's MLflow."""


def _contenders(names: str) -> list[Contender]:
    chosen = names.split(",")
    for name in chosen:
        if name not in LABELS:
            raise InputError(
                f"--contenders: unknown {name!r}{nearest(name, list(LABELS))} (there are: {', '.join(LABELS)})"
            )
    return cast(list[Contender], chosen)


def _present(contenders: list[Contender]) -> list[Contender]:
    """Leave TRL out if it is not installed, and print how to install it."""
    ours = [name for name in contenders if not name.startswith("trl")]
    if importlib.util.find_spec("trl") is not None or len(ours) == len(contenders):
        return contenders
    print(
        "[warmray] TRL is not installed, so the bench measures our own loop only. Install it with: "
        f"{sys.executable} -m pip install -c constraints.txt -e '.[bench]'",
        flush=True,
    )
    return ours


def compare_trainings(config: RunConfig, contenders: str, steps: int | None, threads: int, random_weights: bool) -> int:
    """Train with every contender, print the comparison, and return 0.

    Args:
        config: What is trained; every contender trains the same.
        contenders: Their names, joined by commas, in the order in which they run.
        steps: Optimizer steps; None for one epoch.
        threads: Threads, and cores, of each contender.
        random_weights: Train a model of the configured architecture with random weights.

    Raises:
        InputError: an unknown contender.
        WarmrayError: a contender has no valid figure; the comparison of the others was printed.
    """
    chosen = _present(_contenders(contenders))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=make_folder(home())) as folder:
        # Find or make the model, once for all contenders.
        if random_weights:
            from jobs.bench.random_model import make_random_model

            print(f"[warmray] making {config.model.source} with random weights", flush=True)
            source = make_random_model(config.model, Path(folder) / "model")
        else:
            source = resolve_model(config.model).folder
        local = config.model_copy(update={"model": config.model.model_copy(update={"source": str(source)})})
        task = make_task(local, steps, threads, Path(folder))
        setting = _setting(config, task)

        # Run the contenders, and measure between them how busy other processes keep the machine.
        outcomes: dict[Contender, Outcome] = {}
        busy = [busy_share()]
        for number, name in enumerate(chosen, 1):
            print(f"[warmray] bench {number}/{len(chosen)}: {LABELS[name]}, {task.steps} steps", flush=True)
            outcomes[name] = run_contender_alone(name, task)
            busy.append(busy_share())

    print(f"\n{comparison_text(setting, outcomes, max(busy))}", flush=True)
    missing = [name for name, outcome in outcomes.items() if reason_without_figure(outcome)]
    if missing:
        raise WarmrayError(f"no figure for {', '.join(missing)}")
    return 0


def _setting(config: RunConfig, task: BenchTask) -> Setting:
    """Describe what all contenders have in common, with the model's name as the user gave it."""
    import torch

    workload = read_bench_workload(task)
    examples = [example for batch in workload.batches for example in batch]
    trained_tokens, tokens = counted(examples)
    return Setting(
        model=workload.base.folder.name if config.model.source == "embedded" else config.model.source,
        parameters=read_base(workload.base).parameters,
        lora_rank=task.config.train.lora_rank,
        dtype=task.config.model.dtype,
        device=torch.cuda.get_device_name() if best_device().type == "cuda" else "CPU",
        threads=task.threads,
        conversations=len(examples),
        batch_size=task.config.train.batch_size,
        tokens=tokens,
        trained_tokens=trained_tokens,
    )


def run_contender_alone(name: Contender, task: BenchTask) -> Outcome:
    """Run a contender in its own process; print the log of one that fails, and do not stop the others."""
    task_file, result_file, log_file = (task.folder / f"{name}.{end}" for end in ("task", "result", "log"))
    write_whole(task_file, TASK.dump_json(task).decode())
    command = [sys.executable, "-m", "jobs.bench.contender", name, str(task_file), str(result_file)]

    # Every contender gets the same environment: an empty home, one GPU, as many threads as the others, no network.
    kept = {key: value for key, value in os.environ.items() if key not in NOT_FOR_CONTENDERS}
    own = {
        "WARMRAY_HOME": str(task.folder / "home"),  # holds no finished training
        "HF_HOME": str(task.folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(task.threads),
        "RAY_worker_niceness": "0",  # by default Ray lowers its workers' priority; other contenders keep theirs
        "CUDA_VISIBLE_DEVICES": kept.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],
    }

    # In its own session: Ctrl-C reaches this process only, which then terminates the contender in order.
    with (
        log_file.open("w", encoding="utf-8") as log,
        subprocess.Popen(command, env=kept | QUIET_ENVIRONMENT | own, stderr=log, start_new_session=True) as process,
    ):
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    if code == 0:
        return RUN.validate_json(result_file.read_text(encoding="utf-8"))
    print(log_file.read_text(encoding="utf-8", errors="replace").strip(), file=sys.stderr, flush=True)
    return Failure(f"it ended with exit code {code}")
