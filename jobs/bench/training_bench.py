"""The training bench: contenders one after the other, each in a process of its own, and how they compare."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from jobs.bench.bench_result import LABELS, Contender, Failure, Outcome, Setting, comparison_text, reason_without_figure
from jobs.bench.contender import RUN, TASK
from jobs.bench.contender_task import BenchTask, counted, make_task, read_workload
from jobs.bench.machine import busy_share
from warmray.config import ModelConfig, RunConfig
from warmray.errors import InputError, WarmrayError, nearest
from warmray.models.loading import best_device, resolve_model
from warmray.quiet import QUIET_ENVIRONMENT
from warmray.storage.home import home, make_folder, write_whole
from warmray.training.placement import read_base

NOT_FOR_CONTENDERS = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
"""A bench runs on this machine alone and leaves nothing in the team's MLflow."""


def compare_trainings(config: RunConfig, contenders: str, steps: int | None, threads: int, random_weights: bool) -> int:
    """Train ``steps`` steps (None: one epoch) with every contender and print how they compare; return the exit code.

    Raises:
        InputError: an unknown contender.
        WarmrayError: a contender has no figure; what the others did was printed.
    """
    chosen = _present(_contenders(contenders))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=make_folder(home())) as folder:
        model = _model(config, random_weights, Path(folder))
        task = make_task(config.model_copy(update={"model": model}), steps, threads, Path(folder))
        setting = _setting(config, task)
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


def _contenders(names: str) -> list[Contender]:
    chosen = names.split(",")
    for name in chosen:
        if name not in LABELS:
            raise InputError(
                f"--contenders: unknown {name!r}{nearest(name, list(LABELS))} (there are: {', '.join(LABELS)})"
            )
    return cast(list[Contender], chosen)


def _present(contenders: list[Contender]) -> list[Contender]:
    """Leave TRL out where it is not installed, and say how to install it."""
    ours = [name for name in contenders if not name.startswith("trl")]
    if importlib.util.find_spec("trl") is not None or len(ours) == len(contenders):
        return contenders
    print(
        "[warmray] TRL is not installed, so only our own loop is measured: "
        f"{sys.executable} -m pip install -c constraints.txt -e '.[bench]'",
        flush=True,
    )
    return ours


def _model(config: RunConfig, random_weights: bool, folder: Path) -> ModelConfig:
    """Find or make the model, once for all contenders."""
    if random_weights:
        from jobs.bench.random_model import make_random_model

        print(f"[warmray] making {config.model.source} with random weights", flush=True)
        source = make_random_model(config.model, folder / "model")
    else:
        source = resolve_model(config.model).folder
    return config.model.model_copy(update={"source": str(source)})


def _setting(config: RunConfig, task: BenchTask) -> Setting:
    import torch

    workload = read_workload(task)
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


@dataclass(frozen=True)
class _Files:
    task: Path
    result: Path
    log: Path


def run_contender_alone(name: Contender, task: BenchTask) -> Outcome:
    """Run a contender in a process of its own; a failure is reported and does not stop the others."""
    files = _Files(*(task.folder / f"{name}.{end}" for end in ("task", "result", "log")))
    write_whole(files.task, TASK.dump_json(task).decode())
    command = [sys.executable, "-m", "jobs.bench.contender", name, str(files.task), str(files.result)]
    # Of a session of its own, so that Ctrl-C reaches this process alone, which then ends the contender in order.
    with (
        files.log.open("w", encoding="utf-8") as log,
        subprocess.Popen(command, env=_environment(task), stderr=log, start_new_session=True) as process,
    ):
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    if code == 0:
        return RUN.validate_json(files.result.read_text(encoding="utf-8"))
    told = files.log.read_text(encoding="utf-8", errors="replace").strip()
    print(told, file=sys.stderr, flush=True)
    return Failure(f"it ended with exit code {code}")


def _environment(task: BenchTask) -> dict[str, str]:
    """Return a contender's environment: a home of its own, one GPU, as many threads as the others, no network."""
    kept = {key: value for key, value in os.environ.items() if key not in NOT_FOR_CONTENDERS}
    own = {
        "WARMRAY_HOME": str(task.folder / "home"),  # nothing in it is found finished
        "HF_HOME": str(task.folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(task.threads),
        "RAY_worker_niceness": "0",  # Ray's workers give way to other processes, which the other contenders do not
        "CUDA_VISIBLE_DEVICES": kept.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],
    }
    return kept | QUIET_ENVIRONMENT | own
