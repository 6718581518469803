"""The training loop: packed rows through a DeepSpeed engine, loss on assistant tokens only.

A plain function without Ray: the Ray trainer calls it on every worker, and it runs alone at world size 1.
"""

from __future__ import annotations

import math
import resource
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from warmray.config import TrainConfig
from warmray.errors import InputError
from warmray.models.loading import BaseCheckpoint
from warmray.training.output import adapter_name, save_weights
from warmray.training.packing import Row, pack
from warmray.training.schedule import Schedule
from warmray.training.state import load_state, save_state
from warmray.training.tokens import Example
from warmray.training.zero_engine import start_engine

NAMED_EXAMPLES = 8
"""At most so many conversations are named in an error."""


class NonFiniteLossError(InputError):
    """The loss or its gradient is no number any more: every rank raises it, before anything is saved of that step."""


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did; token counts and shares are over all workers."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    """Cross-entropy in nats per trained token."""
    learning_rate: float
    gradient_norm: float
    trained_tokens: int
    tokens: int
    seconds: float
    num_workers: int
    padding_share: float
    """Share of the computed tokens that stand in no conversation."""
    waiting_share: float
    """Share of the workers' time that goes by in waiting for the one with most tokens, as the token counts tell."""
    peak_memory_bytes: int
    """The fullest worker's: GPU memory that torch gave out, or on a CPU the resident size of the process."""


@dataclass(frozen=True)
class TrainingTask:
    """Everything a worker needs to train one arm."""

    base: BaseCheckpoint
    train: TrainConfig
    seed: int
    examples: list[Example]
    validation: list[Example]
    """Conversations that are never trained on; may be none."""
    origin: dict[str, Any]
    """Facts written beside every adapter and state: base digest, corpus digest, arm, recipe."""
    deepspeed: dict[str, Any]
    """DeepSpeed's configuration."""
    output: Path
    """Folder (seen by all workers) that receives an ``epoch-<dose>`` folder for every dose."""

    @property
    def schedule(self) -> Schedule:
        """The order of examples, the same on every worker."""
        return Schedule(len(self.examples), self.train.batch_size, tuple(self.train.doses), self.seed)


class TrainingHooks:
    """What happens around the steps; called on every rank. This one does nothing, as a bare measurement wants it."""

    def started(self, done: int) -> None:
        """Take note that the engine is ready, with ``done`` steps done before."""

    def stepped(self, report: StepReport) -> None:
        """Take note of an optimizer step."""

    def validated(self, step: int, loss: float) -> None:
        """Take note of the validation loss (nats per trained token) after ``step`` steps."""

    def wants_state(self, step: int) -> bool:
        """Tell, the same on every rank, whether the state must be saved now, whatever the regular interval."""
        return False

    def save(self, report: StepReport, write: Callable[[Path], None]) -> None:
        """Save the state: ``write`` puts it into a folder from rank 0, and every rank must call it."""


def run_training(task: TrainingTask, resume_from: Path | None, hooks: TrainingHooks) -> None:
    """Train one arm; ``torch.distributed`` is initialised.

    Args:
        task: What to train.
        resume_from: Folder of a saved state of the same task to continue from, of any number of workers.
        hooks: Told what happens.

    Raises:
        NonFiniteLossError: the loss is no number any more.
        InputError: ``resume_from`` is the state of another task.
    """
    train, schedule = task.train, task.schedule
    engine = start_engine(task.base, train, task.seed, task.deepspeed)
    done = load_state(engine, resume_from, task.origin, partial(_step_of_zeros, engine)) if resume_from else 0
    dose_steps = {schedule.step_of_dose(dose): dose for dose in train.doses}
    hooks.started(done)
    if not done:
        _validate(engine, task, 0, hooks)
    for step in range(done + 1, schedule.total_steps + 1):
        report = _train_step(engine, task, schedule, step)
        hooks.stepped(report)
        if step in dose_steps:
            save_weights(engine, task.base, task.origin | {"dose": dose_steps[step]}, _place(task, dose_steps[step]))
            _validate(engine, task, step, hooks)
        regular = step % train.checkpoint_every_steps == 0
        if (hooks.wants_state(step) or regular) and step < schedule.total_steps:
            hooks.save(report, partial(save_state, engine, step, task.origin))


def _place(task: TrainingTask, dose: float) -> Path:
    return task.output / adapter_name(dose)


@dataclass
class _Tally:
    """What one rank counts during a step."""

    losses: list[tuple[Row | None, torch.Tensor]] = field(default_factory=list)

    def add(self, row: Row | None, loss: torch.Tensor) -> None:
        self.losses.append((row, loss.detach()))

    @property
    def tokens(self) -> int:
        return sum(len(row.token_ids) for row, _ in self.losses if row)

    @property
    def padding(self) -> int:
        return 2 * sum(row is None for row, _ in self.losses)  # see engine.NO_ROW

    def gathered(self, device: torch.device) -> torch.Tensor:
        """Return summed loss, tokens, padding and peak memory of every rank [ranks x 4]."""
        loss = sum(float(loss) for _, loss in self.losses)
        own = torch.tensor([loss, self.tokens, self.padding, _peak_memory_bytes()], dtype=torch.float64, device=device)
        every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(every, own)
        return torch.stack(every).cpu()

    def not_finite(self) -> list[str]:
        """Return the conversations of the rows whose loss is no number."""
        return [name for row, loss in self.losses if row and not math.isfinite(float(loss)) for name in row.ids]


def _train_step(engine: Any, task: TrainingTask, schedule: Schedule, step: int) -> StepReport:
    started = time.perf_counter()
    world_size = dist.get_world_size()
    batch = [task.examples[index] for index in schedule.batch(step)]
    trained_tokens = sum(sum(example.trained) for example in batch)
    rows = _rows_of_rank(batch, task.train.row_length)
    tally = _Tally()
    for number, row in enumerate(rows, start=1):
        torch.manual_seed(_seed(task.seed, step, row))  # dropout: the same after a resume, on any number of workers
        loss = engine(row)
        engine.set_gradient_accumulation_boundary(number == len(rows))
        # DeepSpeed averages gradients over ranks; this makes them the mean over all trained tokens of the step.
        engine.backward(loss * (world_size / trained_tokens))
        tally.add(row, loss)
        if number == len(rows):  # the next call changes the weights
            gathered = tally.gathered(engine.device)
            _stop_unless_finite(float(gathered[:, 0].sum()), "loss", task, step, tally)
        engine.step()
    gradient_norm = float(engine.get_global_grad_norm() or 0.0)
    _stop_unless_finite(gradient_norm, "gradient", task, step, tally)
    computed = gathered[:, 1] + gathered[:, 2]
    return StepReport(
        step=step,
        total_steps=schedule.total_steps,
        epoch=schedule.epoch_at(step),
        loss=float(gathered[:, 0].sum()) / trained_tokens,
        learning_rate=task.train.learning_rate,
        gradient_norm=gradient_norm,
        trained_tokens=trained_tokens,
        tokens=int(gathered[:, 1].sum()),
        seconds=time.perf_counter() - started,
        num_workers=world_size,
        padding_share=float(gathered[:, 2].sum() / computed.sum()),
        waiting_share=float(1 - computed.mean() / computed.max()),
        peak_memory_bytes=int(gathered[:, 3].max()),
    )


def _stop_unless_finite(value: float, name: str, task: TrainingTask, step: int, tally: _Tally) -> None:
    """Raise on every rank if the value, which is the same on all, is no number."""
    if math.isfinite(value):
        return
    own = tally.not_finite()
    found: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, own)
    names = [name for names in found for name in names] or ["none of them alone"]
    shown = ", ".join(names[:NAMED_EXAMPLES]) + (
        f" and {len(names) - NAMED_EXAMPLES} more" * (len(names) > NAMED_EXAMPLES)
    )
    raise NonFiniteLossError(
        f"the {name} is {value} at step {step} (epoch {task.schedule.epoch_at(step):.2f}), on conversations: {shown}: "
        f"lower train.learning_rate ({task.train.learning_rate:g}) or mend these; checkpoints before this step are kept"
    )


def _validate(engine: Any, task: TrainingTask, step: int, hooks: TrainingHooks) -> None:
    """Tell the loss on the conversations that are held out, if there are any."""
    if not task.validation:
        return
    engine.eval()
    loss = torch.zeros((), dtype=torch.float64, device=engine.device)
    with torch.no_grad():
        for row in _rows_of_rank(task.validation, task.train.row_length):
            loss += engine(row)
    engine.train()
    dist.all_reduce(loss)
    hooks.validated(step, loss.item() / sum(sum(example.trained) for example in task.validation))


def _rows_of_rank(batch: list[Example], row_length: int) -> list[Row | None]:
    """Return this rank's rows, the longest first; every rank has as many, filled up with None."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    rows = sorted(pack(batch, row_length), key=lambda row: -len(row.token_ids))
    own: list[Row | None] = list(rows[rank::world_size])
    return own + [None] * (math.ceil(len(rows) / world_size) - len(own))


def _seed(seed: int, step: int, row: Row | None) -> int:
    return zlib.crc32(repr((seed, step, row.ids if row else None)).encode())


def _step_of_zeros(engine: Any) -> None:
    """Take a step without a gradient: it changes no weight and creates the optimizer's moments."""
    engine.backward(engine(None))
    engine.step()


def _peak_memory_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
