"""Our training loop as a contender on its own: DeepSpeed, without Ray, MLflow and checkpoints."""

from __future__ import annotations

import os
import socket
import time

import torch
import torch.distributed as dist

from jobs.bench.bench_result import Run, Step
from jobs.bench.contender_task import BenchTask, largest_b, read_bench_workload
from jobs.bench.ticker import Ticker
from warmray.models.loading import best_device
from warmray.training.loop import StepReport, TrainingHooks, TrainingTask, run_training
from warmray.training.output import adapter_name
from warmray.training.zero import deepspeed_settings


class _StepRecorder(TrainingHooks):
    """Records when each step ended."""

    def __init__(self) -> None:
        self.ticker = Ticker("bare")
        self.steps: list[Step] = []

    def stepped(self, report: StepReport) -> None:
        self.steps.append(Step(time.perf_counter(), report.trained_tokens, report.tokens, report.loss))
        self.ticker.tick(report.step, report.total_steps, report.loss)


def run_bare(task: BenchTask) -> Run:
    """Call the loop in this process."""
    config, workload = task.config, read_bench_workload(task)
    torch.set_num_threads(task.threads)
    output = task.folder / "bare"
    settings = deepspeed_settings(config.train, config.model.dtype)
    training = TrainingTask(
        workload.base, config.train, config.seed, workload.examples, [], {"base_digest": workload.base.digest},
        settings, output,
    )  # fmt: skip
    recorder = _StepRecorder()

    # The loop needs a process group: one of this process alone, on a free port.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {key: str(value) for key, value in place.items()}
    dist.init_process_group("nccl" if best_device().type == "cuda" else "gloo")
    try:
        run_training(training, None, recorder)
    finally:
        dist.destroy_process_group()
    return Run(tuple(recorder.steps), largest_b(output / adapter_name(config.train.doses[0])))
