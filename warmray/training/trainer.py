"""The Ray trainer around the loop: workers, retries, checkpoints, and reuse of finished trainings by content."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import ray.train
from filelock import Timeout
from ray.train.torch import TorchConfig, TorchTrainer

from warmray.cluster.progress import Post, Update
from warmray.config import Arm, RunConfig
from warmray.corpus.build import Corpus
from warmray.errors import InputError, InterruptedRunError, WarmrayError, root_cause
from warmray.models.adapters import Adapter, resolve_adapter
from warmray.models.loading import BaseCheckpoint, load_tokenizer
from warmray.quiet import QUIET_ENVIRONMENT, quiet_libraries
from warmray.storage.hashing import digest
from warmray.storage.home import home, make_folder, only_one_at, write_whole
from warmray.tracking.mlflow_client import Tracker
from warmray.training.loop import TrainingTask
from warmray.training.output import adapter_name
from warmray.training.placement import Placement, find_placement, read_base, settle
from warmray.training.state import check_same_training
from warmray.training.tokens import TokenisedCorpus, tokenise_corpus
from warmray.training.worker import WorkerJob, run_worker
from warmray.training.zero import deepspeed_settings

RECIPE_VERSION = 5
"""Part of every training's key: raise it when a change of the loop changes the adapters."""
MAX_WORKER_FAILURES = 3
LAYOUT_SETTINGS = {
    "arms", "num_workers", "checkpoint_every_steps", "keep_checkpoints", "zero_stage", "offload",
    "gradient_checkpointing", "deepspeed_config",
}  # fmt: skip
"""Settings that change how a training runs on the cluster but, except for rounding, not the adapters."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DONE_NAME = "training.json"
"""Record of a finished training."""
STARTED_NAME = "begun.json"
"""What a training is of, written before it starts."""


@dataclass(frozen=True)
class TrainedArm:
    """The adapters of one training, by dose, and the MLflow run that recorded it (if any)."""

    arm: Arm
    key: str
    adapters: dict[float, Adapter]
    run_id: str | None


@dataclass(frozen=True)
class RunName:
    """A name that a person gives a training; a training without a name is found by its content alone."""

    text: str
    resume: bool
    """Resume the training of that name, or return it if it is finished; otherwise the name must be new."""

    def __post_init__(self) -> None:
        if not RUN_NAME.fullmatch(self.text):
            raise InputError(f"--name {self.text!r}: use letters, digits, dots, dashes and underscores only")


def training_key(config: RunConfig, arm: Arm, base: BaseCheckpoint, corpus: Corpus, deepspeed: dict[str, Any]) -> str:
    """Return the content digest of one training: it covers what changes the adapters, and nothing else."""
    recipe = config.train.model_dump(exclude=LAYOUT_SETTINGS)
    numerics = {name: value for name, value in deepspeed.items() if name != "zero_optimization"}
    return digest([RECIPE_VERSION, arm, base.digest, base.dtype, corpus.digest, recipe, config.seed, numerics])


def train_arm(
    config: RunConfig, arm: Arm, base: BaseCheckpoint, corpus: Corpus, post: Post, name: RunName | None = None
) -> TrainedArm:
    """Return the adapters of one arm, and train them first unless they exist; Ray must be running.

    Raises:
        InputError: the cluster cannot hold the workers that the configuration asks for; the ``name`` is taken; or the
            training of that name is another one.
        InterruptedRunError: the workers failed too often; the next call resumes.
    """
    deepspeed = deepspeed_settings(config.train, base.dtype)
    key = training_key(config, arm, base, corpus, deepspeed)
    origin = {
        "arm": arm,
        "base_digest": base.digest,
        "base_revision": base.revision,
        "base_name": base.name,
        "corpus_digest": corpus.digest,
        "training_key": key,
        "seed": config.seed,
        "recipe": config.train.model_dump(mode="json"),
    }
    folder = make_folder(home() / "trainings") / (f"{name.text}-{arm}" if name else f"{arm}-{key}")
    if name:
        _check_name(folder, name, origin)

    # Train, unless an earlier or a concurrent call has done so.
    done = folder / DONE_NAME
    if not done.exists():
        with _exclusive(folder, post):
            if not done.exists():
                _Training(config, arm, base, corpus, folder, origin, deepspeed, post).run()

    facts = json.loads(done.read_text(encoding="utf-8"))
    adapters = {dose: resolve_adapter(folder / adapter_name(dose), base) for dose in config.train.doses}
    return TrainedArm(arm, key, adapters, facts["mlflow_run_id"])


def _check_name(folder: Path, name: RunName, origin: dict[str, Any]) -> None:
    """Check that a name is new, or with ``resume`` that it belongs to the same training."""
    started = folder / STARTED_NAME
    if not started.exists():
        if name.resume:
            raise InputError(f"--resume: no training called {name.text!r} exists in {folder.parent}: remove --resume")
        return
    if not name.resume:
        state = "is finished" if (folder / DONE_NAME).exists() else "has started"
        raise InputError(
            f"a training called {name.text!r} {state}: add --resume to continue it, or choose another name"
        )
    check_same_training(f"training {name.text!r}", json.loads(started.read_text(encoding="utf-8")), origin)


@contextlib.contextmanager
def _exclusive(folder: Path, post: Post) -> Iterator[None]:
    """Let one process at a time train into ``folder``; a second one waits and then finds the finished adapters."""
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


@dataclass(frozen=True)
class _Training:
    """The training of one arm."""

    config: RunConfig
    arm: Arm
    base: BaseCheckpoint
    corpus: Corpus
    folder: Path
    origin: dict[str, Any]
    deepspeed: dict[str, Any]
    post: Post

    def run(self) -> None:
        """Train the arm, write its adapters, and write the record of a finished training."""
        # Decide the layout and tokenise: mistakes in the configuration surface before any worker starts.
        placement = find_placement(self.config.train.num_workers)
        shape = read_base(self.base)
        train = settle(self.config.train, shape, placement)
        trained, held_out = self._tokenised("train"), self._tokenised("probe")
        origin = self.origin | {
            "conversations": len(trained.examples),
            "conversations_cut": len(trained.cut),
            "conversations_left_out": len(trained.left_out),
            "conversations_held_out": len(held_out.examples),
        }
        make_folder(self.folder)
        write_whole(self.folder / STARTED_NAME, json.dumps(origin, indent=2))

        # Train on Ray's workers.
        task = TrainingTask(
            self.base, train, self.config.seed, trained.examples, held_out.examples, origin, self.deepspeed, self.folder
        )
        with self._mlflow_run(origin, train.gradient_checkpointing is True) as tracking:
            stage, experiment = f"train {self.arm}", self.config.tracking.experiment
            _fit_on_workers(WorkerJob(task, stage, self.post, experiment, tracking, shape.parameters), placement)

        # Record the end; a finished training needs no resume state.
        record = json.dumps({"origin": origin, "mlflow_run_id": tracking and tracking[1]}, indent=2)
        write_whole(self.folder / DONE_NAME, record)
        for checkpoint in self.folder.glob("checkpoint_*"):
            shutil.rmtree(checkpoint, ignore_errors=True)

    def _tokenised(self, split: Literal["train", "probe"]) -> TokenisedCorpus:
        """Return the examples of a split, and report what did not fit. The ``probe`` split is never trained on."""
        conversations = self.corpus.read(self.arm, split)
        if not conversations and split == "probe":
            return TokenisedCorpus([], [], [])
        max_length = self.config.train.max_length
        tokenised = tokenise_corpus(conversations, load_tokenizer(self.base), max_length)
        for fate, ids in (("cut after the last exchange that fits", tokenised.cut), ("left out", tokenised.left_out)):
            if ids:
                note = f"{len(ids)} conversations over {max_length} tokens {fate}: "
                self.post(Update(f"tokenise {self.arm}, {split}", 1, 1, remark=note + ", ".join(ids[:3])))
        return tokenised

    @contextlib.contextmanager
    def _mlflow_run(self, origin: dict[str, Any], recomputes: bool) -> Iterator[tuple[str, str] | None]:
        """Open the MLflow run and close it when the block ends; without a server, train without logging."""
        # Open the run and log what the training is of.
        try:
            tracker = Tracker(self.config.tracking.experiment)
            facts = {name: value for name, value in origin.items() if name != "recipe"} | origin["recipe"]
            # The folder is part of the key: a named training has its own run even if another has the same content.
            key = f"{self.origin['training_key']}/{self.folder.name}"
            run_id = tracker.open_training(key, self.folder.name, facts | {"gradient_checkpointing": recomputes})
            tracker.log_document(run_id, self.deepspeed, "deepspeed.json")
            tracker.log_document(run_id, self.config.model_dump(mode="json"), "config.yaml")
        except WarmrayError:
            raise
        except Exception:
            print("[warmray] MLflow cannot be reached: this training is kept on disk, but not logged", flush=True)
            yield None
            return

        # Close the run with the status that the block ended with.
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


def _fit_on_workers(job: WorkerJob, placement: Placement) -> None:
    """Let Ray Train run the loop on its workers; after a failure it restarts them from the newest checkpoint."""
    quiet_libraries()
    folder, train = job.task.output, job.task.train
    use_gpu = placement.device is not None
    trainer = TorchTrainer(
        run_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=placement.num_workers,
            use_gpu=use_gpu,
            resources_per_worker=None if use_gpu else {"CPU": 1},
        ),
        run_config=ray.train.RunConfig(
            name=folder.name,  # Ray Train finds an interrupted run by this name
            storage_path=str(folder.parent),
            failure_config=ray.train.FailureConfig(max_failures=MAX_WORKER_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=train.keep_checkpoints),
            worker_runtime_env={"env_vars": QUIET_ENVIRONMENT},
        ),
    )

    # Pass on a person's mistake as it is; report other failures in one line that says how to continue.
    try:
        refusal = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        cause = root_cause(error)
        if isinstance(cause, WarmrayError):
            raise cause from error
        reason = str(cause).strip().splitlines()[-1]
        raise InterruptedRunError(
            f"the training failed {MAX_WORKER_FAILURES + 1} times, last with: {reason} "
            f"(checkpoints are kept in {folder}; the same command resumes)"
        ) from error
    if refusal:
        raise InputError(f"{refusal} in {folder}")
