"""TRL's SFTTrainer as a contender, on exactly the tokens and masks that our loop trains on.

TRL receives token ids and labels instead of texts: tokenising is not part of the steady state, all contenders train the
same tokens by construction, and the loss covers assistant tokens only, whatever the chat template marks.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from jobs.bench.bench_result import Run, Step
from jobs.bench.contender_task import BenchTask, largest_b, lora_config, read_bench_workload
from jobs.bench.ticker import Ticker
from warmray.models.loading import best_device, load_model, load_tokenizer
from warmray.training.packing import pack
from warmray.training.tokens import Example

IGNORED = -100
"""The label of a token that has no loss."""


def run_trl(task: BenchTask, packing: bool, recompute: bool = True) -> Run:
    """Train with TRL; every setting that is not given here is TRL's default.

    Args:
        task: The bench.
        packing: Use TRL's packing, with as many rows per step as hold a batch of conversations.
        recompute: Gradient checkpointing; TRL's default is on.
    """
    # Same threads, and no output but our progress.
    for name in ("trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bars()
    torch.set_num_threads(task.threads)
    workload = read_bench_workload(task)
    examples = [example for batch in workload.batches for example in batch]
    rows = []
    for example in examples:
        pairs = zip(example.token_ids, example.trained, strict=True)
        labels = [token if trained else IGNORED for token, trained in pairs]
        rows.append({"input_ids": list(example.token_ids), "labels": labels})

    # Train; the clock records the times and losses of the steps, the collator their tokens.
    clock = _Clock("TRL, packing" if packing else "TRL")
    trainer = SFTTrainer(
        model=load_model(workload.base).to(best_device()),
        args=_sft_config(task, examples, packing, recompute),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(workload.base),
        peft_config=lora_config(task.config.train),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.data_collator = collator = _CountingCollator(trainer.data_collator)
    trainer.train()
    adapter = task.folder / "trl"
    trainer.save_model(str(adapter))
    steps = zip(clock.ended_s, collator.counts, clock.losses, strict=True)
    return Run(tuple(Step(ended, *counts, loss) for ended, counts, loss in steps), largest_b(adapter))


def _sft_config(task: BenchTask, examples: list[Example], packing: bool, recompute: bool) -> SFTConfig:
    """Return TRL's configuration: our settings, and its defaults for the rest."""
    train = task.config.train
    # A packed batch counts rows: use as many per step as hold the conversations of one of our steps.
    rows_per_step = max(1, round(len(pack(examples, train.row_length)) / task.steps))
    return SFTConfig(
        output_dir=str(task.folder / "trl"),
        num_train_epochs=1,
        per_device_train_batch_size=rows_per_step if packing else train.batch_size,
        max_length=train.row_length if packing else train.max_length,
        packing=packing,
        gradient_checkpointing=recompute,
        bf16=task.config.model.dtype == "bfloat16",
        use_cpu=best_device().type == "cpu",
        learning_rate=train.learning_rate,
        seed=task.config.seed,
        logging_steps=1,  # the loss of every step; TRL computes its other metrics every step anyway
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class _CountingCollator:
    """Counts the tokens of each batch before padding; batches come in the order of the steps."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate
        self.counts: list[tuple[int, int]] = []
        """Trained tokens and all tokens of each step."""

    def __call__(self, rows: list[dict[str, list[int]]]) -> Any:
        trained = sum(label != IGNORED for row in rows for label in row["labels"])
        self.counts.append((trained, sum(len(row["input_ids"]) for row in rows)))
        return self.collate(rows)


class _Clock(TrainerCallback):
    """Records when each step ended, and its loss."""

    def __init__(self, name: str) -> None:
        self.ticker = Ticker(name)
        self.ended_s: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ended_s.append(time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])
            self.ticker.tick(state.global_step, state.max_steps, logs["loss"])
