"""The training loop: LoRA on a causal language model under a DeepSpeed engine, loss on assistant tokens only.

A plain function without Ray: the Ray trainer calls it on every worker, and it runs alone at world size 1.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from warmray.config import TrainConfig
from warmray.models.adapters import ORIGIN_NAME, WEIGHTS_NAME
from warmray.models.loading import BaseCheckpoint, load_model
from warmray.training.schedule import Schedule
from warmray.training.tokens import Example
from warmray.training.zero import deepspeed_settings

if TYPE_CHECKING:
    from peft import PeftModel

STATE_NAME = "warmray_state.json"


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
    save_state: Callable[[StepReport, Callable[[Path], None]], None],
) -> None:
    """Train one adapter; ``torch.distributed`` is initialised.

    Args:
        task: What to train.
        resume_from: Folder of a saved state to continue from.
        on_start: Called on every rank when the engine is ready, with the number of steps that were done before.
        on_step: Called on every rank after each optimizer step.
        save_state: Called on every rank at each checkpoint step with a function that writes this rank's share of the
            state into a folder.
    """
    schedule = task.schedule
    engine = _start_engine(task)
    done = _load_state(engine, resume_from) if resume_from else 0
    dose_steps = {schedule.step_of_dose(dose): dose for dose in task.train.doses}
    on_start(done)
    for step in range(done + 1, schedule.total_steps + 1):
        report = _train_step(engine, task, schedule, step)
        on_step(report)
        if step in dose_steps:
            _save_adapter(engine, task, dose_steps[step])
        if step % task.train.checkpoint_every_steps == 0 and step < schedule.total_steps:
            save_state(report, partial(_write_state, engine, step))


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
    model = get_peft_model(model, lora).train()
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
    torch.manual_seed(hash((task.seed, step, rank)) % 2**31)  # dropout of this step, resumed or not
    loss_sum = torch.zeros((), device=engine.device)
    micro_batches = _micro_batches(batch, rank, world_size, task.train.micro_batch_size)
    for number, micro_batch in enumerate(micro_batches, start=1):
        micro_loss = _loss_sum(engine.module, micro_batch, engine.device)
        engine.set_gradient_accumulation_boundary(number == len(micro_batches))
        # DeepSpeed averages gradients over ranks; this makes them the mean over all trained tokens of the step.
        engine.backward(micro_loss * (world_size / trained_tokens))
        engine.step()
        loss_sum += micro_loss.detach()
    dist.all_reduce(loss_sum)
    return StepReport(
        step=step,
        total_steps=schedule.total_steps,
        epoch=schedule.epoch_at(step),
        loss=loss_sum.item() / trained_tokens,
        learning_rate=task.train.learning_rate,
        gradient_norm=float(engine.get_global_grad_norm() or 0.0),
        trained_tokens=trained_tokens,
        tokens=sum(len(example.token_ids) for example in batch),
        seconds=time.perf_counter() - started,
    )


def _micro_batches(batch: list[Example], rank: int, world_size: int, size: int) -> list[list[Example]]:
    """Return this rank's share in micro-batches of similar length: as many as on every other rank, perhaps empty."""
    share = sorted(batch, key=lambda example: len(example.token_ids))[rank::world_size]
    count = math.ceil(math.ceil(len(batch) / world_size) / size)
    return [share[number * size : (number + 1) * size] for number in range(count)]


def _loss_sum(model: PeftModel, batch: list[Example], device: torch.device) -> torch.Tensor:
    """Return the summed cross-entropy of the trained tokens; logits exist only where something is trained."""
    if not batch:  # a last worker without examples still takes part in the collectives
        return sum((p.sum() * 0.0 for p in model.parameters() if p.requires_grad), torch.zeros((), device=device))
    width = max(len(example.token_ids) for example in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    trained = torch.zeros((len(batch), width), dtype=torch.bool)
    for row, example in enumerate(batch):
        length = len(example.token_ids)
        ids[row, :length] = torch.tensor(example.token_ids)
        mask[row, :length] = 1
        trained[row, :length] = torch.tensor(example.trained)
    ids, mask, trained = ids.to(device), mask.to(device), trained.to(device)
    causal = model.get_base_model()
    hidden = causal.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    predicted_from = trained[:, 1:]  # position i predicts token i + 1
    logits = causal.get_output_embeddings()(hidden[:, :-1][predicted_from])
    return cross_entropy(logits.float(), ids[:, 1:][predicted_from], reduction="sum")


def _save_adapter(engine: Any, task: TrainingTask, dose: float) -> None:
    """Write the adapter in PEFT format on rank 0, whole or not at all."""
    import deepspeed
    from safetensors.torch import load_file

    trainable = [p for p in engine.module.parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters(trainable, modifier_rank=None, enabled=task.train.zero_stage == 3):
        if dist.get_rank() == 0:
            task.output.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=".building-", dir=task.output))
            engine.module.save_pretrained(building, safe_serialization=True)
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


def _write_state(engine: Any, step: int, folder: Path) -> None:
    engine.save_checkpoint(str(folder), tag="state", exclude_frozen_parameters=True)
    (folder / STATE_NAME).write_text(json.dumps({"step": step}), encoding="utf-8")


def _load_state(engine: Any, folder: Path) -> int:
    engine.load_checkpoint(str(folder), tag="state", load_module_strict=False)
    return int(json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))["step"])
