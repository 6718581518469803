"""Our loop as a contender: as the sweep runs it, bare, and without DeepSpeed."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator

import torch
import torch.distributed as dist

from jobs.bench.bench_result import Run, Step
from jobs.bench.contender_task import REPORT_EVERY_S, BenchTask, counted, largest_b, read_workload
from jobs.bench.machine import Cores, pin, pinned_below
from warmray.corpus.build import build_corpus
from warmray.models.loading import best_device
from warmray.training.loop import StepReport, TrainingHooks, TrainingTask, run_training
from warmray.training.output import adapter_name
from warmray.training.zero import deepspeed_settings

TRAINING_PROCESS = "ray::RayTrainWorker"


def run_ours(task: BenchTask) -> Run:
    """Train as the sweep does: a Ray Train worker, DeepSpeed, every step to MLflow, progress and checkpoints.

    MLflow's store says when each step was logged, so that the logging itself is in the time between two steps.
    """
    from warmray.cluster.progress import Progress
    from warmray.cluster.ray_session import ray_session
    from warmray.tracking.mlflow_client import Tracker
    from warmray.training.trainer import train_arm

    config, workload, cores = task.config, read_workload(task), Cores.for_threads(task.threads)
    pin(os.getpid(), cores.beside)  # before Ray's processes, which stay there
    with ray_session(), pinned_below(TRAINING_PROCESS, cores.training), Progress() as progress:
        trained = train_arm(config, config.train.arms[0], workload.base, build_corpus(config.corpus), progress.post)
    if trained.run_id is None:
        raise RuntimeError("the training was not logged to MLflow, which has its times")
    history = Tracker(config.tracking.experiment).client.get_metric_history(trained.run_id, "loss")
    logged = sorted(history, key=lambda metric: metric.step)
    steps = tuple(
        Step(metric.timestamp / 1000, *counted(batch), metric.value)
        for metric, batch in zip(logged, workload.batches, strict=True)
    )
    (adapter,) = trained.adapters.values()
    return Run(steps, largest_b(adapter.folder))


class _Recorder(TrainingHooks):
    """Notes when each step ended; tells how far it is every few seconds."""

    def __init__(self, name: str) -> None:
        self.ticker = Ticker(name)
        self.steps: list[Step] = []

    def stepped(self, report: StepReport) -> None:
        self.steps.append(Step(time.perf_counter(), report.trained_tokens, report.tokens, report.loss))
        self.ticker.tell(report.step, report.total_steps, report.loss)


class Ticker:
    """Prints a line of progress every few seconds, without Ray."""

    def __init__(self, name: str) -> None:
        """Take the name of what is going on."""
        self.name = name
        self.told_s = time.monotonic()

    def tell(self, step: int, total: int, loss: float) -> None:
        """Print the step unless a line was printed just now."""
        if time.monotonic() - self.told_s >= REPORT_EVERY_S or step == total:
            self.told_s = time.monotonic()
            print(f"[warmray] {self.name:<25} {step}/{total} | loss {loss:.3f}", file=sys.__stdout__, flush=True)


def run_bare(task: BenchTask) -> Run:
    """Call the loop in this process: no Ray, no MLflow, no checkpoints."""
    config, workload = task.config, read_workload(task)
    torch.set_num_threads(task.threads)
    output = task.folder / "bare"
    settings = deepspeed_settings(config.train, config.model.dtype)
    training = TrainingTask(
        workload.base, config.train, config.seed, workload.examples, [], {"base_digest": workload.base.digest},
        settings, output,
    )  # fmt: skip
    recorder = _Recorder("bare")
    with _alone():
        run_training(training, None, recorder)
    return Run(tuple(recorder.steps), largest_b(output / adapter_name(config.train.doses[0])))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Open a process group of this process only."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {key: str(value) for key, value in place.items()}
    dist.init_process_group("nccl" if best_device().type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
