"""The training loop: LoRA on a causal language model under a DeepSpeed engine, loss on assistant tokens only.

A plain function without Ray: the Ray trainer calls it on every worker, and it runs alone at world size 1.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from warmray.config import TrainConfig
from warmray.models.adapters import ORIGIN_NAME, WEIGHTS_NAME
from warmray.models.loading import BaseCheckpoint, load_model
from warmray.training.loss import loss_sum
from warmray.training.packing import Row, model_inputs, pack, predictions
from warmray.training.schedule import Schedule
from warmray.training.state import load_state, save_state
from warmray.training.tokens import Example
from warmray.training.zero import deepspeed_settings

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did; token counts are over all workers."""

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


@dataclass(frozen=True)
class TrainingTask:
    """Everything a worker needs to train one adapter."""

    base: BaseCheckpoint
    train: TrainConfig
    seed: int
    examples: list[Example]
    origin: dict[str, Any]
    """Facts written beside every adapter: base digest, corpus digest, arm, recipe."""
    output: Path
    """Folder (seen by all workers) that receives ``epoch-<dose>`` adapter folders."""

    @property
    def schedule(self) -> Schedule:
        """The order of examples, the same on every worker."""
        return Schedule(len(self.examples), self.train.batch_size, tuple(self.train.doses), self.seed)


def run_training(
    task: TrainingTask,
    resume_from: Path | None,
    on_start: Callable[[int], None],
    on_step: Callable[[StepReport], None],
    save: Callable[[StepReport, Callable[[Path], None]], None],
) -> None:
    """Train one adapter; ``torch.distributed`` is initialised.

    Args:
        task: What to train.
        resume_from: Folder of a saved state to continue from, of any number of workers.
        on_start: Called on every rank when the engine is ready, with the number of steps that were done before.
        on_step: Called on every rank after each optimizer step.
        save: Called on every rank at each checkpoint step with a function that writes the state into a folder.
    """
    schedule = task.schedule
    engine = _start_engine(task)
    done = load_state(engine, resume_from, partial(_step_of_zeros, engine)) if resume_from else 0
    dose_steps = {schedule.step_of_dose(dose): dose for dose in task.train.doses}
    on_start(done)
    for step in range(done + 1, schedule.total_steps + 1):
        report = _train_step(engine, task, schedule, step)
        on_step(report)
        if step in dose_steps:
            _save_adapter(engine, task, dose_steps[step])
        if step % task.train.checkpoint_every_steps == 0 and step < schedule.total_steps:
            save(report, partial(save_state, engine, step))


class RowLoss(nn.Module):
    """The model as DeepSpeed sees it: a packed row in, the summed loss of its trained tokens out.

    The whole computation stands inside one forward call, so that ZeRO-3 can bring the weights in and out.
    """

    def __init__(self, model: PeftModel) -> None:
        """Take a causal language model with adapters."""
        super().__init__()
        self.model = model

    def forward(self, row: Row | None) -> torch.Tensor:
        """Return the summed cross-entropy in nats; without a row, zero with gradients of zero."""
        if row is None:  # a worker that has run out of rows still takes part in every collective
            return loss_sum(*self._states(NO_ROW), self._head()) * 0.0
        return loss_sum(*self._states(row), self._head())

    def _states(self, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        device = next(self.model.parameters()).device
        decoder = self.model.get_base_model().get_decoder()
        hidden = decoder(**model_inputs(row, device)).last_hidden_state
        positions, targets = predictions(row, device)
        return hidden[0, positions], targets

    def _head(self) -> nn.Module:
        head: nn.Module = self.model.get_base_model().get_output_embeddings()
        return head


NO_ROW = Row(ids=("none",), lengths=(2,), token_ids=(0, 0), trained=(False, True))


def _start_engine(task: TrainingTask) -> Any:
    import deepspeed
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(task.seed)
    model = load_model(task.base)
    lora = LoraConfig(
        r=task.train.lora_rank,
        lora_alpha=task.train.lora_alpha,
        lora_dropout=task.train.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, lora)
    if task.train.gradient_checkpointing is True:
        peft_model.enable_input_require_grads()  # what is recomputed must be seen to need a gradient
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = RowLoss(peft_model).train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=task.train.learning_rate, weight_decay=0.0)
    settings = deepspeed_settings(task.train, task.base.dtype, dist.get_world_size())
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, model_parameters=trainable, config=settings, dist_init_required=False
    )
    return engine


def _train_step(engine: Any, task: TrainingTask, schedule: Schedule, step: int) -> StepReport:
    started = time.perf_counter()
    rank, world_size = dist.get_rank(), dist.get_world_size()
    batch = [task.examples[index] for index in schedule.batch(step)]
    trained_tokens = sum(sum(example.trained) for example in batch)
    rows = _rows_of_rank(batch, task.train, rank, world_size)
    loss = torch.zeros((), device=engine.device)
    for number, row in enumerate(rows, start=1):
        torch.manual_seed(_seed(task.seed, step, row))  # dropout: the same after a resume, on any number of workers
        row_loss = engine(row)
        engine.set_gradient_accumulation_boundary(number == len(rows))
        # DeepSpeed averages gradients over ranks; this makes them the mean over all trained tokens of the step.
        engine.backward(row_loss * (world_size / trained_tokens))
        engine.step()
        loss += row_loss.detach()
    dist.all_reduce(loss)
    return StepReport(
        step=step,
        total_steps=schedule.total_steps,
        epoch=schedule.epoch_at(step),
        loss=loss.item() / trained_tokens,
        learning_rate=task.train.learning_rate,
        gradient_norm=float(engine.get_global_grad_norm() or 0.0),
        trained_tokens=trained_tokens,
        tokens=sum(len(example.token_ids) for example in batch),
        seconds=time.perf_counter() - started,
    )


def _rows_of_rank(batch: list[Example], train: TrainConfig, rank: int, world_size: int) -> list[Row | None]:
    """Return this rank's rows, the longest first; every rank has as many, filled up with None."""
    rows = sorted(pack(batch, train.row_length), key=lambda row: -len(row.token_ids))
    own: list[Row | None] = list(rows[rank::world_size])
    return own + [None] * (math.ceil(len(rows) / world_size) - len(own))


def _seed(seed: int, step: int, row: Row | None) -> int:
    return zlib.crc32(repr((seed, step, row.ids if row else None)).encode())


def _step_of_zeros(engine: Any) -> None:
    """Take a step without a gradient: it changes no weight and creates the optimizer's moments."""
    engine.backward(engine(None))
    engine.step()


def _save_adapter(engine: Any, task: TrainingTask, dose: float) -> None:
    """Write the adapter in PEFT format on rank 0, whole or not at all."""
    import deepspeed
    from safetensors.torch import load_file

    trainable = [p for p in engine.module.parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters(trainable, modifier_rank=None, enabled=task.train.zero_stage == 3):
        if dist.get_rank() == 0:
            task.output.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=".building-", dir=task.output))
            engine.module.model.save_pretrained(building, safe_serialization=True)
            (building / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
            empty = [name for name, tensor in load_file(building / WEIGHTS_NAME).items() if tensor.numel() == 0]
            if empty:
                raise RuntimeError(f"the adapter was saved with empty tensors: {empty[:3]}")
            origin = task.origin | {"dose": dose}
            (building / ORIGIN_NAME).write_text(json.dumps(origin, indent=2, sort_keys=True), encoding="utf-8")
            building.chmod(0o755)
            _replace_folder(building, task.output / adapter_name(dose))
    dist.barrier()


def adapter_name(dose: float) -> str:
    """Return the folder name of the adapter kept after ``dose`` epochs."""
    return f"epoch-{dose:g}"


def _replace_folder(new: Path, target: Path) -> None:
    if target.exists():  # a resumed training passes this dose again and writes the same adapter
        os.rename(target, new.with_name(f"{new.name}-old"))
    os.rename(new, target)
