"""DeepSpeed settings made from the run configuration."""

from __future__ import annotations

from typing import Any

from warmray.config import TrainConfig


def deepspeed_settings(train: TrainConfig, dtype: str, world_size: int) -> dict[str, Any]:
    """Return the DeepSpeed configuration: ZeRO stage, precision and batch arithmetic."""
    return {
        # Batches are cut by training.schedule; DeepSpeed only has to know that every step() follows one backward().
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": dtype == "bfloat16"},
        "zero_optimization": {
            "stage": train.zero_stage,
            "overlap_comm": False,
            # Sized for LoRA: the default buckets of 500 M elements are allocated whole.
            "reduce_bucket_size": 5_000_000,
            "allgather_bucket_size": 5_000_000,
        },
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }
