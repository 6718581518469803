"""DeepSpeed settings made from the run configuration, and the file that may override them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from warmray.config import TrainConfig
from warmray.errors import InputError

BUCKET_ELEMENTS = {"lora": 5_000_000, "full": 50_000_000}
"""Gradients or weights that one collective call carries."""
DERIVED_SETTINGS = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.row_length",
    "gradient_accumulation_steps": "train.batch_size",
    "optimizer": "train.learning_rate",
    "scheduler": "train.learning_rate",
    "fp16": "model.dtype",
    "bf16": "model.dtype",
    "zero_optimization.stage": "train.zero_stage",
    "zero_optimization.offload_optimizer.device": "train.offload",
    "zero_optimization.offload_param.device": "train.offload",
}
"""DeepSpeed settings that the loop depends on, and the warmray setting that decides each."""


def deepspeed_settings(train: TrainConfig, dtype: str) -> dict[str, Any]:
    """Return the DeepSpeed configuration: ZeRO stage, offloading and precision, with the user's file merged over it.

    Raises:
        InputError: ``train.deepspeed_config`` cannot be read, or sets what a warmray setting decides.
    """
    # ZeRO: buckets are allocated whole, and DeepSpeed's default of 500 M elements is more than an adapter has.
    host = {"device": "cpu", "pin_memory": False}
    zero: dict[str, Any] = {
        "stage": train.zero_stage,
        "overlap_comm": train.zero_stage == 3,  # gathers the next weights during computation
        "reduce_bucket_size": BUCKET_ELEMENTS[train.method],
        "allgather_bucket_size": BUCKET_ELEMENTS[train.method],
    }
    if "optimizer" in train.offload:
        zero["offload_optimizer"] = host
    if "parameters" in train.offload:
        zero["offload_param"] = host

    # training.schedule cuts the batches; DeepSpeed only needs to know that one step() follows every backward().
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": dtype == "bfloat16"},
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }
    return _merged(settings, _read_overrides(train.deepspeed_config)) if train.deepspeed_config else settings


def _read_overrides(path: str) -> dict[str, Any]:
    """Read the user's DeepSpeed file and check that it leaves the derived settings alone."""
    where = f"train.deepspeed_config {path}"
    if not Path(path).is_absolute():
        raise InputError(f"{where} is a relative path: give an absolute one")
    try:
        overrides = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read as JSON: {error}") from error
    if not isinstance(overrides, dict):
        raise InputError(f"{where} is not a JSON object: write it in the form of DeepSpeed's configuration")

    # Walk down each dotted name; a name whose last part is reached is set in the file.
    for key, setting in DERIVED_SETTINGS.items():
        tree: Any = overrides
        parts = key.split(".")
        while parts and isinstance(tree, dict) and parts[0] in tree:
            tree = tree[parts.pop(0)]
        if not parts:
            raise InputError(f"{where} sets {key}, but {setting} decides it: remove {key} from the file")
    return overrides


def _merged(settings: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with ``overrides`` on top, object by object."""
    merged = settings | overrides
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            merged[key] = _merged(settings[key], value)
    return merged
