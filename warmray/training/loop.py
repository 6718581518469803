"""The training loop: packed rows through a DeepSpeed engine, loss on assistant tokens only.

A plain function without Ray: the Ray trainer calls it on every worker, and one process can run it alone.
"""

from __future__ import annotations

import math
import resource
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
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
from warmray.training.zero_engine import NO_ROW, start_engine

NAMED_EXAMPLES = 8
"""The most conversations that an error names."""


class NonFiniteLossError(InputError):
    """The loss or its gradient is not finite: every rank raises this before it saves anything of that step."""


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did; token counts and shares are totals over all workers."""

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
    """Share of the computed tokens that belong to no conversation."""
    waiting_share: float
    """Share of the workers' time spent waiting for the one with most tokens, estimated from the token counts."""
    peak_memory_bytes: int
    """The largest of any worker: GPU memory that torch allocated, or on a CPU the resident size of the process."""


@dataclass(frozen=True)
class TrainingTask:
    """Everything a worker needs to train one arm."""

    base: BaseCheckpoint
    train: TrainConfig
    seed: int
    examples: list[Example]
    validation: list[Example]
    """Conversations that are never trained on; may be empty."""
    origin: dict[str, Any]
    """Facts written next to every adapter and state: base digest, corpus digest, arm, recipe."""
    deepspeed: dict[str, Any]
    """DeepSpeed's configuration."""
    output: Path
    """A folder that all workers see; receives an ``epoch-<dose>`` folder for every dose."""

    @property
    def schedule(self) -> Schedule:
        """The order of examples, the same on every worker."""
        return Schedule(len(self.examples), self.train.batch_size, tuple(self.train.doses), self.seed)


class TrainingHooks:
    """What happens around the steps; the loop calls them on every rank. This base class does nothing."""

    def started(self, done: int) -> None:
        """Report that the engine is ready and ``done`` steps were completed before."""

    def stepped(self, report: StepReport) -> None:
        """Report an optimizer step."""

    def validated(self, step: int, loss: float) -> None:
        """Report the validation loss (nats per trained token) after ``step`` steps."""

    def wants_state(self, step: int) -> bool:
        """Return whether to save the state now, outside the regular interval; must be the same on every rank."""
        return False

    def save(self, report: StepReport, write: Callable[[Path], None]) -> None:
        """Save the state: ``write`` puts it into a folder from rank 0, and every rank must call it."""


def run_training(task: TrainingTask, resume_from: Path | None, hooks: TrainingHooks) -> None:
    """Train one arm; the caller has initialised ``torch.distributed``.

    Args:
        task: What to train.
        resume_from: Folder with a saved state of the same task to continue from; any number of workers wrote it.
        hooks: Called around the steps.

    Raises:
        NonFiniteLossError: the loss or its gradient is not finite.
        InputError: ``resume_from`` is the state of another task.
    """
    train, schedule = task.train, task.schedule
    engine = start_engine(task.base, train, task.seed, task.deepspeed)
    done = load_state(engine, resume_from, task.origin) if resume_from else 0
    dose_steps = {schedule.step_of_dose(dose): dose for dose in train.doses}
    hooks.started(done)
    if not done:
        _validate(engine, task, 0, hooks)
    for step in range(done + 1, schedule.total_steps + 1):
        report = _train_step(engine, task, schedule, step)
        hooks.stepped(report)

        # Save the weights of a dose before the state: a resume after it does not need to write them again.
        if step in dose_steps:
            dose = dose_steps[step]
            save_weights(engine, task.base, task.origin | {"dose": dose}, task.output / adapter_name(dose))
            _validate(engine, task, step, hooks)

        # Every rank must ask the hooks at every step; after the last step there is nothing to resume.
        regular = step % train.checkpoint_every_steps == 0
        if (hooks.wants_state(step) or regular) and step < schedule.total_steps:
            hooks.save(report, partial(save_state, engine, step, task.origin))


def _train_step(engine: Any, task: TrainingTask, schedule: Schedule, step: int) -> StepReport:
    started = time.perf_counter()
    world_size = dist.get_world_size()
    batch = [task.examples[index] for index in schedule.batch(step)]
    trained_tokens = sum(sum(example.trained) for example in batch)

    # Accumulate the gradients of this rank's rows.
    rows = _rows_of_rank(batch, task.train.row_length)
    losses = []
    for number, row in enumerate(rows, start=1):
        # Seed dropout by the row's content: it is the same after a resume and on any number of workers.
        torch.manual_seed(zlib.crc32(repr((task.seed, step, row.ids if row else None)).encode()))
        loss = engine(row)
        engine.set_gradient_accumulation_boundary(number == len(rows))
        # DeepSpeed averages gradients over ranks; this factor makes them the mean over all trained tokens of the step.
        engine.backward(loss * (world_size / trained_tokens))
        losses.append(loss.detach())
        if number < len(rows):
            engine.step()

    # Add up what every rank counted [ranks x 4], and check the loss before the last engine.step() changes the weights.
    own = torch.tensor(
        [
            sum(float(loss) for loss in losses),
            sum(len(row.token_ids) for row in rows if row),
            len(NO_ROW.token_ids) * rows.count(None),
            _peak_memory_bytes(),
        ],
        dtype=torch.float64,
        device=engine.device,
    )
    every = [torch.empty_like(own) for _ in range(world_size)]
    dist.all_gather(every, own)
    loss_sums, tokens, padding, peak_bytes = torch.stack(every).cpu().unbind(dim=1)
    loss_total = float(loss_sums.sum())
    _stop_unless_finite(loss_total, "loss", task, step, rows, losses)

    # Update the weights.
    engine.step()
    gradient_norm = float(engine.get_global_grad_norm() or 0.0)
    _stop_unless_finite(gradient_norm, "gradient", task, step, rows, losses)
    computed = tokens + padding
    return StepReport(
        step=step,
        total_steps=schedule.total_steps,
        epoch=schedule.epoch_at(step),
        loss=loss_total / trained_tokens,
        learning_rate=task.train.learning_rate,
        gradient_norm=gradient_norm,
        trained_tokens=trained_tokens,
        tokens=int(tokens.sum()),
        seconds=time.perf_counter() - started,
        num_workers=world_size,
        padding_share=float(padding.sum() / computed.sum()),
        waiting_share=float(1 - computed.mean() / computed.max()),
        peak_memory_bytes=int(peak_bytes.max()),
    )


def _rows_of_rank(batch: list[Example], row_length: int) -> list[Row | None]:
    """Return this rank's rows, the longest first; every rank has the same number, filled up with None."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    rows = sorted(pack(batch, row_length), key=lambda row: -len(row.token_ids))
    own: list[Row | None] = list(rows[rank::world_size])
    return own + [None] * (math.ceil(len(rows) / world_size) - len(own))


def _peak_memory_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _stop_unless_finite(
    value: float, name: str, task: TrainingTask, step: int, rows: list[Row | None], losses: list[torch.Tensor]
) -> None:
    """Raise on every rank if the value, which is the same on all, is not finite."""
    if math.isfinite(value):
        return

    # Collect from all ranks the conversations of the rows whose own loss is not finite.
    pairs = zip(rows, losses, strict=True)
    own = [key for row, loss in pairs if row and not math.isfinite(float(loss)) for key in row.ids]
    found: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, own)
    names = [key for keys in found for key in keys] or ["no single conversation"]

    shown = ", ".join(names[:NAMED_EXAMPLES])
    if len(names) > NAMED_EXAMPLES:
        shown += f" and {len(names) - NAMED_EXAMPLES} more"
    raise NonFiniteLossError(
        f"the {name} is {value} at step {step} (epoch {task.schedule.epoch_at(step):.2f}), on conversations: {shown}: "
        f"lower train.learning_rate ({task.train.learning_rate:g}) or correct the conversations; checkpoints of "
        "earlier steps are kept"
    )


def _validate(engine: Any, task: TrainingTask, step: int, hooks: TrainingHooks) -> None:
    """Report the loss on the held-out conversations, if there are any."""
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
