"""Our rows and our loss in a loop of plain torch: what the loop costs without DeepSpeed, Ray and MLflow."""

from __future__ import annotations

import time

import torch
from peft import get_peft_model

from jobs.bench.bench_result import Run, Step
from jobs.bench.contender_task import BenchTask, counted, largest_b, lora_config, read_workload
from jobs.bench.ours import Ticker
from warmray.models.loading import best_device, load_model
from warmray.training.packing import pack
from warmray.training.tokens import Example
from warmray.training.zero_engine import RowLoss


def run_plain(task: BenchTask) -> Run:
    """Train one epoch with AdamW on float32 copies of the adapter, as DeepSpeed does."""
    torch.set_num_threads(task.threads)
    train, workload = task.config.train, read_workload(task)
    torch.manual_seed(task.config.seed)
    base = load_model(workload.base).to(best_device())
    adapted = get_peft_model(base, lora_config(train), autocast_adapter_dtype=False)
    loop = _Loop(RowLoss(adapted).train(), train.learning_rate, train.row_length)
    ticker, steps = Ticker("plain torch"), []
    for batch in workload.batches:
        loss = loop.step(batch)
        steps.append(Step(time.perf_counter(), *counted(batch), loss))
        ticker.tell(len(steps), task.steps, loss)
    adapted.save_pretrained(task.folder / "plain")
    return Run(tuple(steps), largest_b(task.folder / "plain"))


class _Loop:
    def __init__(self, model: RowLoss, learning_rate: float, row_length: int) -> None:
        self.model, self.row_length = model, row_length
        self.weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.masters = [weight.detach().float() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(self.masters, lr=learning_rate, weight_decay=0.0)

    def step(self, batch: list[Example]) -> float:
        """Take one optimizer step and return the loss per trained token."""
        trained, _ = counted(batch)
        loss = torch.zeros((), device=self.weights[0].device)
        for row in pack(batch, self.row_length):
            row_loss = self.model(row) / trained
            row_loss.backward()
            loss += row_loss.detach()
        for master, weight in zip(self.masters, self.weights, strict=True):
            master.grad, weight.grad = None if weight.grad is None else weight.grad.float(), None
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for master, weight in zip(self.masters, self.weights, strict=True):
                weight.copy_(master)
        return loss.item()
