"""The Ray trainer around the loop: workers, retries, checkpoints, and the finished adapters found again by content."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from filelock import Timeout
from ray.train.torch import TorchConfig, TorchTrainer

from warmray.config import Arm, NumWorkers, RunConfig
from warmray.corpus.build import Corpus
from warmray.errors import InputError, InterruptedRunError, WarmrayError, root_cause
from warmray.hashing import digest
from warmray.home import home, make_folder, only_one_at, write_whole
from warmray.models.adapters import Adapter, resolve_adapter
from warmray.models.loading import BaseCheckpoint, load_tokenizer
from warmray.progress import Post, Update
from warmray.quiet import QUIET_ENVIRONMENT, quiet_libraries
from warmray.tracking import Tracker, TrainingLog
from warmray.training.loop import StepReport, TrainingTask, adapter_name, run_training
from warmray.training.state import CorruptStateError, check_state
from warmray.training.tokens import tokenise_corpus

RECIPE_VERSION = 3
"""Part of every training's key: raise it when the loop changes what comes out."""
MAX_WORKER_FAILURES = 3


@dataclass(frozen=True)
class TrainedArm:
    """The adapters of one training, by dose, and the MLflow run that recorded it (if any)."""

    arm: Arm
    key: str
    adapters: dict[float, Adapter]
    run_id: str | None


@dataclass(frozen=True)
class _WorkerJob:
    task: TrainingTask
    stage: str
    post: Post
    experiment: str
    tracking: tuple[str, str] | None
    """MLflow address and run id."""


def training_key(config: RunConfig, arm: Arm, base: BaseCheckpoint, corpus: Corpus) -> str:
    """Return the content digest of one training: what would change its adapters, and nothing else."""
    recipe = config.train.model_dump(exclude={"arms", "num_workers", "checkpoint_every_steps"})
    return digest([RECIPE_VERSION, arm, base.digest, base.dtype, corpus.digest, recipe, config.seed])


def train_arm(config: RunConfig, arm: Arm, base: BaseCheckpoint, corpus: Corpus, post: Post) -> TrainedArm:
    """Return the adapters of one arm, training them unless they are there already; Ray must be running.

    Raises:
        InputError: the cluster cannot hold the workers that the configuration asks for.
        InterruptedRunError: workers failed more often than is accepted; the next call resumes.
    """
    key = training_key(config, arm, base, corpus)
    folder = make_folder(home() / "trainings") / f"{arm}-{key}"
    done = folder / "training.json"
    if not done.exists():
        with _only_trainer_of(folder, post):
            if not done.exists():
                _train(config, arm, base, corpus, folder, key, post)
    facts = json.loads(done.read_text(encoding="utf-8"))
    adapters = {dose: resolve_adapter(folder / adapter_name(dose), base) for dose in config.train.doses}
    return TrainedArm(arm, key, adapters, facts["mlflow_run_id"])


@contextlib.contextmanager
def _only_trainer_of(folder: Path, post: Post) -> Iterator[None]:
    """Let one process at a time train into ``folder``; a second waits and then finds the work done."""
    lock = only_one_at(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        post(Update(f"train {folder.name[:4]}", 0, 1, remark="waiting: another process trains the same adapter"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _train(
    config: RunConfig, arm: Arm, base: BaseCheckpoint, corpus: Corpus, folder: Path, key: str, post: Post
) -> None:
    num_workers, use_gpu = workers_for(config.train.num_workers)
    tokenised = tokenise_corpus(corpus.read(arm, "train"), load_tokenizer(base), config.train.max_length)
    for fate, ids in (("cut after the last exchange that fits", tokenised.cut), ("left out", tokenised.left_out)):
        if ids:
            note = f"{len(ids)} conversations over {config.train.max_length} tokens {fate}: "
            post(Update(f"tokenise {arm}", 1, 1, remark=note + ", ".join(ids[:3])))
    origin = {
        "arm": arm,
        "base_digest": base.digest,
        "base_name": base.folder.name,
        "corpus_digest": corpus.digest,
        "training_key": key,
        "recipe": config.train.model_dump(),
        "conversations": len(tokenised.examples),
        "conversations_cut": len(tokenised.cut),
        "conversations_left_out": len(tokenised.left_out),
    }
    task = TrainingTask(base, config.train, config.seed, tokenised.examples, origin, folder)
    with _tracked(config, arm, key, origin) as tracking:
        job = _WorkerJob(task, f"train {arm}", post, config.tracking.experiment, tracking)
        _fit(job, folder, num_workers, use_gpu)
    record = json.dumps({"origin": origin, "mlflow_run_id": tracking and tracking[1]}, indent=2)
    write_whole(folder / "training.json", record)
    for checkpoint in folder.glob("checkpoint_*"):
        shutil.rmtree(checkpoint, ignore_errors=True)  # resume state of a finished training serves nobody


@contextlib.contextmanager
def _tracked(config: RunConfig, arm: Arm, key: str, origin: dict[str, Any]) -> Iterator[tuple[str, str] | None]:
    """Open the training's MLflow run and close it however the block ends; without a server, go on without."""
    try:
        tracker = Tracker(config.tracking.experiment)
        recipe = {name: value for name, value in origin.items() if name != "recipe"} | origin["recipe"]
        run_id = tracker.open_training(key, f"train {arm}", recipe)
    except WarmrayError:
        raise
    except Exception:
        print("[warmray] MLflow cannot be reached: this training is kept on disk, but not logged", flush=True)
        yield None
        return
    status = "FAILED"
    try:
        yield tracker.uri, run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        with contextlib.suppress(Exception):
            tracker.close(run_id, status)


def workers_for(asked: NumWorkers) -> tuple[int | tuple[int, int], bool]:
    """Return how many training workers to start (or the fewest and the most), and whether each gets a GPU.

    Raises:
        InputError: the cluster has fewer GPUs or CPUs than workers; Ray itself would wait for ever.
    """
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    available, kind = (gpus, "GPUs") if gpus else (cpus, "CPUs")
    wanted = (gpus or min(2, cpus)) if asked == "auto" else asked
    fewest = wanted[0] if isinstance(wanted, tuple) else wanted
    if not 1 <= fewest <= available:
        raise InputError(
            f"train.num_workers is {asked}, but the cluster has {available} {kind}: lower it, or add nodes"
        )
    return wanted, bool(gpus)


def _fit(job: _WorkerJob, folder: Path, num_workers: int | tuple[int, int], use_gpu: bool) -> None:
    quiet_libraries()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers, use_gpu=use_gpu, resources_per_worker=None if use_gpu else {"CPU": 1}
        ),
        run_config=ray.train.RunConfig(
            name=folder.name,  # also the key by which Ray Train finds an interrupted run again
            storage_path=str(folder.parent),
            failure_config=ray.train.FailureConfig(max_failures=MAX_WORKER_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            worker_runtime_env={"env_vars": QUIET_ENVIRONMENT},
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        cause = root_cause(error)
        if isinstance(cause, WarmrayError):
            raise cause from error
        reason = str(cause).strip().splitlines()[-1]
        raise InterruptedRunError(
            f"the training failed {MAX_WORKER_FAILURES + 1} times, last with: {reason} "
            f"(checkpoints are kept in {folder}; the same command resumes)"
        ) from error


def _worker(worker_config: dict[str, Any]) -> None:
    """Run the loop on one Ray Train worker."""
    # DeepSpeed compiles an op on first use and looks for ninja on the path.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet_libraries()
    job: _WorkerJob = worker_config["job"]
    leads = ray.train.get_context().get_world_rank() == 0
    log = TrainingLog(job.experiment, *job.tracking) if leads and job.tracking else None
    trained_tokens = 0

    def on_start(done: int) -> None:
        if leads:
            remark = f"resumed after step {done}" if done else "started"
            job.post(Update(job.stage, done, job.task.schedule.total_steps, 0, remark))

    def on_step(report: StepReport) -> None:
        nonlocal trained_tokens
        trained_tokens += report.tokens
        if not leads:
            return
        remark = f"epoch {report.epoch:.2f} | loss {report.loss:.3f}"
        job.post(Update(job.stage, report.step, report.total_steps, trained_tokens, remark))
        if log is not None:
            log.log(_metrics(report), report.step)

    def save_state(report: StepReport, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            ray.train.report({"step": report.step}, checkpoint=ray.train.Checkpoint.from_directory(folder))

    with contextlib.ExitStack() as opened:
        run_training(job.task, _newest_whole_state(opened, job, leads), on_start, on_step, save_state)


def _newest_whole_state(opened: contextlib.ExitStack, job: _WorkerJob, leads: bool) -> Path | None:
    """Return the newest checkpoint that is whole; tell which ones were passed over."""
    for reported in reversed(ray.train.get_all_reported_checkpoints()):
        folder = Path(opened.enter_context(reported.checkpoint.as_directory()))
        try:
            check_state(folder)
        except CorruptStateError as error:
            if leads:
                job.post(Update(f"{job.stage}, resume", 1, 1, remark=f"checkpoint passed over: {error}"))
            continue
        return folder
    return None


def _metrics(report: StepReport) -> dict[str, float]:
    facts = asdict(report)
    kept = ("loss", "learning_rate", "gradient_norm", "epoch")
    return {name: facts[name] for name in kept} | {
        "tokens_per_second": report.tokens / report.seconds,
        "trained_tokens_per_second": report.trained_tokens / report.seconds,
    }
