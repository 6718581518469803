"""The model under DeepSpeed: loaded, adapted or opened as a whole, and cut up as the ZeRO stage asks."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
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


class RowLoss(nn.Module):
    """The model as DeepSpeed sees it: a packed row in, the summed loss of its trained tokens out.

    The whole computation stands inside one forward call, so that ZeRO-3 can bring the weights in and out.
    """

    def __init__(self, model: PeftModel | PreTrainedModel) -> None:
        """Take a causal language model, with adapters or without."""
        super().__init__()
        self.model = model

    def forward(self, row: Row | None) -> torch.Tensor:
        """Return the summed cross-entropy in nats; without a row, zero with gradients of zero."""
        if row is None:  # a worker that has run out of rows still takes part in every collective
            return loss_sum(*self._states(NO_ROW), self._head()) * 0.0
        return loss_sum(*self._states(row), self._head())

    def _states(self, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        device = next(self.model.parameters()).device
        hidden = self._base().get_decoder()(**model_inputs(row, device)).last_hidden_state
        positions, targets = predictions(row, device)
        return hidden[0, positions], targets

    def _head(self) -> nn.Module:
        head: nn.Module = self._base().get_output_embeddings()
        return head

    def _base(self) -> Any:
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model


def start_engine(base: BaseCheckpoint, train: TrainConfig, seed: int, settings: dict[str, Any]) -> Any:
    """Return a DeepSpeed engine around :class:`RowLoss`, the same on every rank; ``torch.distributed`` is initialised.

    Args:
        base: The model to start from.
        train: What is trained, and how; ``gradient_checkpointing`` is decided (not ``auto``).
        seed: Of the adapter's first weights.
        settings: DeepSpeed's configuration, as :func:`warmray.training.zero.deepspeed_settings` makes it.
    """
    find_operators()
    import deepspeed

    model = RowLoss(_trainable_model(base, train, seed, settings)).train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # The optimizer of offloaded weights works on the CPU, where only torch's fused AdamW uses all of it.
    fused = True if "optimizer" in train.offload else None
    optimizer = torch.optim.AdamW(trainable, lr=train.learning_rate, weight_decay=0.0, fused=fused)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, model_parameters=trainable, config=settings, dist_init_required=False
    )
    return engine


def _trainable_model(base: BaseCheckpoint, train: TrainConfig, seed: int, settings: dict[str, Any]) -> Any:
    from peft import LoraConfig, get_peft_model

    partitioned = train.zero_stage == 3
    with _partitioned_while_loading(settings) if partitioned else contextlib.nullcontext():
        # On a GPU weights go straight there, except where every rank is to hold no more than its share.
        model = load_model(base, None if partitioned else best_device())
    use_best_attention(model)
    if train.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if train.method == "full":
        return model.requires_grad_(True)
    lora = LoraConfig(
        r=train.lora_rank,
        lora_alpha=train.lora_alpha,
        lora_dropout=train.lora_dropout,
        target_modules=train.target_modules,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)  # every rank starts from the same adapter
    peft_model = get_peft_model(model, lora)
    if train.gradient_checkpointing:
        peft_model.enable_input_require_grads()  # what is recomputed must be seen to need a gradient
    return peft_model


@contextlib.contextmanager
def _partitioned_while_loading(settings: dict[str, Any]) -> Iterator[None]:
    """Let transformers hand each tensor to ZeRO-3 as it is read, so that no rank ever holds the whole model."""
    from transformers.integrations import HfDeepSpeedConfig

    known = HfDeepSpeedConfig(settings)  # transformers finds it for as long as it lives
    yield
    del known


def find_operators() -> None:
    """Let DeepSpeed find ninja, and keep what it compiles at first use in this Python environment.

    By default compiled operators lie in the user's home, where two environments with different paths would compile
    them anew in turn.
    """
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    if os.access(sys.prefix, os.W_OK):
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))


def compile_operators() -> None:
    """Compile what DeepSpeed needs on CPUs: half a minute that nobody should wait for in the middle of a run."""
    find_operators()
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=False)
