"""The input of every contender: the same model, conversations, settings and threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmray.config import RunConfig, TrainConfig
from warmray.corpus.build import build_corpus
from warmray.errors import InputError
from warmray.models.adapters import WEIGHTS_NAME
from warmray.models.loading import BaseCheckpoint, best_device, load_tokenizer, resolve_model
from warmray.training.placement import Placement, first_gpu, read_base, settle
from warmray.training.schedule import Schedule
from warmray.training.tokens import Example, tokenise_corpus

if TYPE_CHECKING:
    from peft import LoraConfig


@dataclass(frozen=True)
class BenchTask:
    """One bench; ``config`` names its model by a folder, and its only dose ends after the last step."""

    config: RunConfig
    steps: int
    threads: int
    folder: Path
    """Receives the contenders' output; deleted when the bench ends."""


@dataclass(frozen=True)
class BenchWorkload:
    """The model and the tokenised conversations."""

    base: BaseCheckpoint
    examples: list[Example]
    schedule: Schedule
    steps: int

    @property
    def batches(self) -> list[list[Example]]:
        """The conversations of every step, in the order of our loop."""
        return [[self.examples[index] for index in self.schedule.batch(s)] for s in range(1, self.steps + 1)]


def make_task(config: RunConfig, steps: int | None, threads: int, folder: Path) -> BenchTask:
    """Reduce a configuration to one worker, one arm and ``steps`` steps (None: one epoch).

    Raises:
        InputError: the configuration trains the whole model, or its model does not fit on one GPU.
    """
    if config.train.method != "lora":
        raise InputError("the bench compares LoRA trainings: set train.method to `lora`")
    examples = len(_examples(config))
    steps = steps or -(-examples // config.train.batch_size)

    # A dose half a step before the last step ends: rounding up gives the step, and no rounding error adds one.
    dose = (steps - 0.5) * config.train.batch_size / examples
    train = config.train.model_copy(update={"arms": config.train.arms[:1], "doses": [dose], "num_workers": 1})
    train = settle(
        train,
        read_base(resolve_model(config.model)),
        Placement(1, first_gpu() if best_device().type == "cuda" else None),
    )
    return BenchTask(config.model_copy(update={"train": train}), steps, threads, folder)


def read_bench_workload(task: BenchTask) -> BenchWorkload:
    """Return the model and the conversations of a bench."""
    examples = _examples(task.config)
    train = task.config.train
    schedule = Schedule(len(examples), train.batch_size, tuple(train.doses), task.config.seed)
    return BenchWorkload(resolve_model(task.config.model), examples, schedule, task.steps)


def _examples(config: RunConfig) -> list[Example]:
    conversations = build_corpus(config.corpus).read(config.train.arms[0], "train")
    tokenizer = load_tokenizer(resolve_model(config.model))
    return tokenise_corpus(conversations, tokenizer, config.train.max_length).examples


def counted(examples: list[Example]) -> tuple[int, int]:
    """Return the number of trained tokens and of all tokens."""
    return sum(sum(e.trained) for e in examples), sum(len(e.token_ids) for e in examples)


def lora_config(train: TrainConfig) -> LoraConfig:
    """Return the adapter that every contender trains."""
    from peft import LoraConfig

    return LoraConfig(
        r=train.lora_rank,
        lora_alpha=train.lora_alpha,
        lora_dropout=train.lora_dropout,
        target_modules=train.target_modules,
        task_type="CAUSAL_LM",
    )


def largest_b(adapter: Path) -> float:
    """Return the largest absolute value among the B matrices of a PEFT adapter folder."""
    from safetensors.torch import load_file

    tensors = load_file(adapter / WEIGHTS_NAME)
    return max(float(tensor.abs().max()) for name, tensor in tensors.items() if "lora_B" in name)
