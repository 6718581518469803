"""The model under DeepSpeed: loaded, with an adapter or trainable as a whole, and partitioned by the ZeRO stage."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from warmray.config import TrainConfig
from warmray.models.loading import BaseCheckpoint, best_device, load_model
from warmray.training.attention import use_best_attention
from warmray.training.loss import loss_sum
from warmray.training.packing import Row, model_inputs, predictions

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

NO_ROW = Row(ids=("none",), lengths=(2,), token_ids=(0, 0), trained=(False, True))
"""What a worker computes, and multiplies by zero, after its own rows."""


class RowLoss(nn.Module):
    """The model as DeepSpeed sees it: a packed row in, the summed loss of its trained tokens out.

    One forward call holds the whole computation: ZeRO-3 gathers and releases weights around it.
    """

    def __init__(self, model: PeftModel | PreTrainedModel) -> None:
        """Take a causal language model, with or without adapters."""
        super().__init__()
        self.model = model

    def forward(self, row: Row | None) -> torch.Tensor:
        """Return the summed cross-entropy in nats; without a row, zero with gradients of zero."""
        base: Any = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        device = next(self.model.parameters()).device

        # A worker without a row still takes part in every collective.
        packed = NO_ROW if row is None else row
        hidden = base.get_decoder()(**model_inputs(packed, device)).last_hidden_state
        positions, targets = predictions(packed, device)
        loss = loss_sum(hidden[0, positions], targets, base.get_output_embeddings())
        return loss * 0.0 if row is None else loss


def start_engine(base: BaseCheckpoint, train: TrainConfig, seed: int, settings: dict[str, Any]) -> Any:
    """Return a DeepSpeed engine around :class:`RowLoss`, the same on every rank; ``torch.distributed`` is initialised.

    Args:
        base: The model to start from.
        train: What is trained, and how; ``gradient_checkpointing`` must be decided (not ``auto``).
        seed: Seed of the adapter's initial weights.
        settings: DeepSpeed's configuration, made by :func:`warmray.training.zero.deepspeed_settings`.
    """
    find_operators()
    import deepspeed

    model = RowLoss(_trainable_model(base, train, seed, settings)).train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Offloaded weights are updated on the CPU, and only torch's fused AdamW uses all of its cores.
    fused = True if "optimizer" in train.offload else None
    optimizer = torch.optim.AdamW(trainable, lr=train.learning_rate, weight_decay=0.0, fused=fused)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, model_parameters=trainable, config=settings, dist_init_required=False
    )
    return engine


def _trainable_model(base: BaseCheckpoint, train: TrainConfig, seed: int, settings: dict[str, Any]) -> Any:
    """Load the base model and make it trainable: with a LoRA adapter, or as a whole."""
    from peft import LoraConfig, get_peft_model
    from transformers.integrations import HfDeepSpeedConfig

    # Load. Under ZeRO-3 transformers hands each tensor to DeepSpeed as it reads it, while an HfDeepSpeedConfig object
    # exists: no rank ever holds the whole model. Otherwise the weights go straight to the GPU.
    partitioned = train.zero_stage == 3
    partitioning = HfDeepSpeedConfig(settings) if partitioned else None
    model = load_model(base, None if partitioned else best_device())
    del partitioning

    use_best_attention(model)
    if train.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if train.method == "full":
        return model.requires_grad_(True)

    # Add the adapter; the seed gives every rank the same initial weights.
    lora = LoraConfig(
        r=train.lora_rank,
        lora_alpha=train.lora_alpha,
        lora_dropout=train.lora_dropout,
        target_modules=train.target_modules,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    peft_model = get_peft_model(model, lora)
    if train.gradient_checkpointing:
        peft_model.enable_input_require_grads()  # checkpointing skips layers whose input needs no gradient
    return peft_model


def find_operators() -> None:
    """Put this environment's ninja on the PATH, and keep the operators that DeepSpeed compiles in this environment.

    By default compiled operators are in the user's home, where two environments with different paths would recompile
    them in turn.
    """
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    if os.access(sys.prefix, os.W_OK):
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))


def compile_operators() -> None:
    """Compile DeepSpeed's CPU operators (half a minute) at installation instead of in the first training."""
    find_operators()
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=False)
