"""GPU memory of a LoRA training in bfloat16 under DeepSpeed ZeRO, part by part, from the shape of the model alone.

What is kept for the backward pass is counted from what autograd saves in transformers' decoder layers with PEFT's LoRA
(no fused kernels): frozen linear maps keep nothing, their adapters keep their inputs, norms keep a float32 copy.
``tests/models/test_memory.py`` holds these figures against a miniature that is really run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from warmray.config import TrainConfig
from warmray.models.architecture import Architecture

GIB = 1 << 30
BF16_BYTES = 2
FP32_BYTES = 4
MASK_BYTES = 1

LOSS_CHUNK_TOKENS = 1024
"""Positions whose logits exist at one time."""
LOGIT_BYTES = 14
"""Per logit at the worst moment: the bfloat16 logit, its float32 log-probability, and two float32 gradients."""
MASTER_AND_MOMENTS_BYTES = 12
"""Per trained parameter: float32 master copy and Adam's two moments (ZeRO, Rajbhandari et al. 2020, section 3.1)."""
LIVE_PARAMETERS = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered before it lets go of any: DeepSpeed's ``stage3_max_live_parameters``."""
PREFETCHED_PARAMETERS = 50_000_000
"""Parameters that ZeRO-3 gathers ahead: DeepSpeed's ``stage3_prefetch_bucket_size``."""
OVERHEAD_BYTES = 5 * GIB // 2
"""Assumed: CUDA's context and kernels (about 0.6 GiB), cuBLAS, NCCL's buffers (about 1 GiB), DeepSpeed's buckets."""
USABLE_SHARE = 0.9
"""Share of a GPU that may be planned for; the rest is left to the allocator's fragmentation, worst under ZeRO-3."""


@dataclass(frozen=True)
class MemorySetup:
    """One way to lay a training out in memory."""

    zero_stage: Literal[1, 2, 3]
    gradient_checkpointing: bool
    """Keep only each layer's input, and compute the rest again in the backward pass."""
    offload: bool = False
    """Keep the frozen weights and the optimizer in host memory; ZeRO-3 only."""


@dataclass(frozen=True)
class MemoryUse:
    """Peak bytes on one GPU, by part."""

    weights_bytes: int
    adapter_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    overhead_bytes: int = OVERHEAD_BYTES

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return sum(getattr(self, part.name) for part in fields(self))


def memory_use(architecture: Architecture, train: TrainConfig, setup: MemorySetup, num_gpus: int) -> MemoryUse:
    """Return what one of ``num_gpus`` GPUs holds at its fullest, in the middle of a backward pass.

    What each stage of ZeRO divides by the number of GPUs follows Rajbhandari et al. 2020, figure 1.
    """
    adapter = architecture.adapter_parameters(train.lora_rank)
    tokens = tokens_per_pass(train)
    return MemoryUse(
        weights_bytes=_weights_bytes(architecture, setup, num_gpus),
        # ZeRO-3 leaves tensors of under 100,000 parameters whole (stage3_param_persistence_threshold): most of LoRA's.
        adapter_bytes=BF16_BYTES * adapter,
        gradients_bytes=_gradients_bytes(adapter, setup.zero_stage, num_gpus),
        optimizer_bytes=0 if setup.offload else MASTER_AND_MOMENTS_BYTES * adapter // num_gpus,
        activations_bytes=activations_bytes(architecture, train, setup.gradient_checkpointing),
        logits_bytes=LOGIT_BYTES * min(tokens, LOSS_CHUNK_TOKENS) * architecture.vocabulary_size,
    )


def host_bytes(architecture: Architecture, train: TrainConfig, num_gpus: int) -> int:
    """Return the host memory that offloading takes for each of ``num_gpus`` GPUs."""
    adapter = architecture.adapter_parameters(train.lora_rank)
    return (BF16_BYTES * architecture.parameters + MASTER_AND_MOMENTS_BYTES * adapter) // num_gpus


def tokens_per_pass(train: TrainConfig) -> int:
    """Return the most tokens that one GPU takes through the model at once."""
    return train.row_length


def _weights_bytes(architecture: Architecture, setup: MemorySetup, num_gpus: int) -> int:
    if setup.zero_stage < 3:
        return BF16_BYTES * architecture.parameters
    gathered = max(LIVE_PARAMETERS, architecture.largest_tensor) + PREFETCHED_PARAMETERS
    own_share = 0 if setup.offload else architecture.parameters // num_gpus
    return BF16_BYTES * min(own_share + gathered, architecture.parameters)


def _gradients_bytes(adapter_parameters: int, zero_stage: int, num_gpus: int) -> int:
    """Return accumulated bfloat16 gradients, whole under ZeRO-1, and the share cast to float32 for the step."""
    accumulated = adapter_parameters if zero_stage == 1 else adapter_parameters // num_gpus
    return BF16_BYTES * accumulated + FP32_BYTES * adapter_parameters // num_gpus


def activations_bytes(architecture: Architecture, train: TrainConfig, gradient_checkpointing: bool) -> int:
    """Return what the layers keep for the backward pass, and what that pass needs to work on one of them."""
    layer = layer_activation_bytes(architecture, train)
    layers = architecture.num_layers
    inputs = BF16_BYTES * architecture.hidden_size
    kept = layers * inputs + layer if gradient_checkpointing else layers * layer
    return tokens_per_pass(train) * (kept + _working_bytes(architecture))


def layer_activation_bytes(architecture: Architecture, train: TrainConfig) -> int:
    """Return the bytes per token that one decoder layer keeps for its backward pass.

    Attention is SDPA with a mask: it keeps no scores (Dao et al. 2022), but keys and values repeated for all query
    heads, and the mask in bfloat16. FlashAttention with variable lengths, which keeps neither, takes a little less.
    """
    hidden, queries, mlp = architecture.hidden_size, architecture.query_size, architecture.mlp_size
    per_layer = len(architecture.linears) // architecture.num_layers
    norms = 2 * FP32_BYTES * (hidden + 1)  # their input, and one reciprocal root
    attention = BF16_BYTES * (4 * queries + train.row_length)  # query, key, value and output; a row of the mask
    attention += FP32_BYTES * architecture.num_heads  # log-sum-exp
    gated_mlp = BF16_BYTES * 3 * mlp  # SiLU's input and output, and what it gates
    if train.lora_dropout:  # every adapter keeps its own thinned input and the mask
        inputs = sum(linear.inputs for linear in architecture.linears) // architecture.num_layers
        lora_inputs = (BF16_BYTES + MASK_BYTES) * inputs
    else:  # query, key and value share theirs, so do gate and up; the output map's is kept by attention already
        lora_inputs = BF16_BYTES * (2 * hidden + mlp)
    return norms + attention + gated_mlp + lora_inputs + BF16_BYTES * train.lora_rank * per_layer


def _working_bytes(architecture: Architecture) -> int:
    """Return the bytes per token in flight within one layer: two gradients as wide as the MLP, one of the stream."""
    return BF16_BYTES * 2 * architecture.mlp_size + FP32_BYTES * architecture.hidden_size
