"""Our rows and our loss in a loop of plain torch: the speed of the loop without DeepSpeed, Ray and MLflow."""

from __future__ import annotations

import time

import torch
from peft import get_peft_model

from jobs.bench.bench_result import Run, Step
from jobs.bench.contender_task import BenchTask, counted, largest_b, lora_config, read_bench_workload
from jobs.bench.ticker import Ticker
from warmray.models.loading import best_device, load_model
from warmray.training.packing import pack
from warmray.training.zero_engine import RowLoss


def run_plain(task: BenchTask) -> Run:
    """Train with AdamW on float32 copies of the adapter, as DeepSpeed does."""
    # The model, and float32 master copies of the weights that are trained.
    torch.set_num_threads(task.threads)
    train, workload = task.config.train, read_bench_workload(task)
    torch.manual_seed(task.config.seed)
    base = load_model(workload.base).to(best_device())
    adapted = get_peft_model(base, lora_config(train), autocast_adapter_dtype=False)
    model = RowLoss(adapted).train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    masters = [weight.detach().float() for weight in weights]
    optimizer = torch.optim.AdamW(masters, lr=train.learning_rate, weight_decay=0.0)

    ticker, steps = Ticker("plain torch"), []
    for batch in workload.batches:
        # Accumulate the gradients of the mean loss per trained token.
        trained, tokens = counted(batch)
        total = torch.zeros((), device=weights[0].device)
        for row in pack(batch, train.row_length):
            row_loss = model(row) / trained
            row_loss.backward()
            total += row_loss.detach()

        # Update the master copies, and copy them back into the model.
        for master, weight in zip(masters, weights, strict=True):
            master.grad, weight.grad = None if weight.grad is None else weight.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for master, weight in zip(masters, weights, strict=True):
                weight.copy_(master)
        loss = total.item()  # waits for the GPU

        steps.append(Step(time.perf_counter(), trained, tokens, loss))
        ticker.tick(len(steps), task.steps, loss)
    adapted.save_pretrained(task.folder / "plain")
    return Run(tuple(steps), largest_b(task.folder / "plain"))
