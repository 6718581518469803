"""The Ray Train worker: the training loop with checkpoints, progress and MLflow around it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray.train
import torch
from ray.train import CheckpointUploadMode

from warmray.cluster.progress import Post, Update
from warmray.models.memory import GIB
from warmray.models.plan import known_gpu
from warmray.quiet import quiet_libraries
from warmray.tracking.mlflow_client import TrainingLog
from warmray.training.loop import NonFiniteLossError, StepReport, TrainingHooks, TrainingTask, run_training
from warmray.training.state import CorruptStateError, verify_state


@dataclass(frozen=True)
class WorkerJob:
    """What the driver sends to every worker."""

    task: TrainingTask
    stage: str
    post: Post
    experiment: str
    tracking: tuple[str, str] | None
    """MLflow address and run id."""
    parameters: int
    """Parameters of the base model, from which ``mfu`` is calculated."""


def run_worker(worker_config: dict[str, WorkerJob]) -> str | None:
    """Run the loop on one Ray Train worker.

    Returns:
        Why a retry is useless, or None when the training is complete. (Ray Train retries after any exception.)
    """
    quiet_libraries()
    job = worker_config["job"]
    is_leader = ray.train.get_context().get_world_rank() == 0
    with contextlib.ExitStack() as stack:
        log = None
        if is_leader and job.tracking:
            log = stack.enter_context(TrainingLog(job.experiment, *job.tracking))
        state = _newest_intact_state(stack, job, is_leader)
        try:
            run_training(job.task, state, _LeaderHooks(job, log) if is_leader else _RayHooks())
        except NonFiniteLossError as error:
            return str(error)
    return None


def _newest_intact_state(stack: contextlib.ExitStack, job: WorkerJob, is_leader: bool) -> Path | None:
    """Return the newest checkpoint that is intact, and report each damaged one that is skipped."""
    for reported in reversed(ray.train.get_all_reported_checkpoints()):
        folder = Path(stack.enter_context(reported.checkpoint.as_directory()))
        try:
            verify_state(folder)
        except CorruptStateError as error:
            if is_leader:
                job.post(Update(f"{job.stage}, resume", 1, 1, remark=f"damaged checkpoint skipped: {error}"))
            continue
        return folder
    return None


class _RayHooks(TrainingHooks):
    """Every rank's part in saving: Ray Train needs the same calls from all ranks."""

    def __init__(self) -> None:
        self._leaving_nodes: list[str] = []
        self._node_leaves = False

    def wants_state(self, step: int) -> bool:
        """Save once when Ray announces the loss of a node; the workers continue until the node is gone."""
        info = ray.train.get_preemption_info()
        leaving = info.preempted_node_ids if info else []
        self._node_leaves = bool(leaving) and leaving != self._leaving_nodes
        self._leaving_nodes = leaving
        return self._node_leaves

    def save(self, report: StepReport, write: Callable[[Path], None]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="warmray-state-"))
        write(folder)

        # Only rank 0 writes files; the other ranks report without a checkpoint.
        has_files = any(folder.iterdir())
        if not has_files:
            folder.rmdir()

        # Training continues during the upload, unless the node that holds the files may be gone before it ends.
        ray.train.report(
            {"step": report.step},
            checkpoint=ray.train.Checkpoint.from_directory(folder) if has_files else None,
            checkpoint_upload_mode=CheckpointUploadMode.SYNC if self._node_leaves else CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )


class _LeaderHooks(_RayHooks):
    """Rank 0 also reports progress to the driver and metrics to MLflow."""

    def __init__(self, job: WorkerJob, log: TrainingLog | None) -> None:
        super().__init__()
        self._job, self._log = job, log
        self._tokens = 0
        self._validation = ""

    def started(self, done: int) -> None:
        remark = f"resumed after step {done}" if done else "started"
        self._job.post(Update(self._job.stage, done, self._job.task.schedule.total_steps, 0, remark))
        if done and self._log:
            self._log.log({"resumed_after_step": done}, done)

    def stepped(self, report: StepReport) -> None:
        self._tokens += report.tokens
        remark = f"epoch {report.epoch:.2f} | loss {report.loss:.3f}{self._validation}"
        self._job.post(Update(self._job.stage, report.step, report.total_steps, self._tokens, remark))
        if self._log:
            self._log.log(step_metrics(report, self._job), report.step)

    def validated(self, step: int, loss: float) -> None:
        self._validation = f", validation loss {loss:.3f}"
        if self._log:
            self._log.log({"validation_loss": loss}, step)


def step_metrics(report: StepReport, job: WorkerJob) -> dict[str, float]:
    """Return the metrics of a step that MLflow records.

    ``mfu`` is the share of the GPU's dense bfloat16 peak, for known GPUs. By convention LoRA counts 4 FLOPs per
    parameter and token (frozen weights need no gradient), full fine-tuning 6; recomputation does not count.
    """
    per_gpu = report.seconds * report.num_workers
    flops_per_parameter = 4 if job.task.train.method == "lora" else 6
    flops = flops_per_parameter * job.parameters * report.tokens / per_gpu
    metrics = {
        "loss": report.loss,
        "learning_rate": report.learning_rate,
        "gradient_norm": report.gradient_norm,
        "epoch": report.epoch,
        "tokens_per_second": report.tokens / report.seconds,
        "tokens_per_second_per_gpu": report.tokens / per_gpu,
        "trained_tokens_per_second_per_gpu": report.trained_tokens / per_gpu,
        "model_tflops_per_gpu": flops / 1e12,
        "padding_share": report.padding_share,
        "waiting_share": report.waiting_share,
        "peak_memory_gib": report.peak_memory_bytes / GIB,
        "num_workers": report.num_workers,
    }
    gpu = known_gpu(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    if gpu is not None and gpu.bf16_tflops is not None:
        metrics["mfu"] = flops / (gpu.bf16_tflops * 1e12)
    return metrics
