"""GPU memory of a training in bfloat16 under DeepSpeed ZeRO, part by part, from the shape of the model alone.

What is kept for the backward pass is counted from what autograd saves in transformers' decoder layers with PEFT's LoRA
(no fused kernels): frozen linear maps keep nothing, their adapters and trained ones keep their inputs, norms keep a
float32 copy. ``tests/models/test_memory.py`` holds these figures against a miniature that is really run.
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
STEP_BYTES = 8
"""Per parameter that is being updated: its float32 gradient, and the denominator of torch's AdamW."""
HOST_OPTIMIZER_BYTES = 20
"""Per trained parameter in host memory: master copy, moments and gradient in float32, and bfloat16 copies of gradient
and weight on their way (18 under ZeRO-3)."""
LIVE_PARAMETERS = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered before it lets go of any: DeepSpeed's ``stage3_max_live_parameters`` and
``stage3_max_reuse_distance``."""
PREFETCHED_PARAMETERS = 50_000_000
"""Parameters that ZeRO-3 gathers ahead: DeepSpeed's ``stage3_prefetch_bucket_size``."""
SUB_GROUP_PARAMETERS = 1_000_000_000
"""Parameters that one GPU updates at a time under ZeRO-3: DeepSpeed's ``sub_group_size``."""
OVERHEAD_BYTES = 5 * GIB // 2
"""Assumed: CUDA's context and kernels (about 0.6 GiB), cuBLAS, NCCL's buffers (about 1 GiB), DeepSpeed's buckets."""
USABLE_SHARE = 0.9
"""Share of a GPU that may be planned for; the rest is left to the allocator's fragmentation, worst under ZeRO-3."""

Offloaded = Literal["optimizer", "parameters"]
ON_HOST: frozenset[Offloaded] = frozenset(("optimizer", "parameters"))


@dataclass(frozen=True)
class MemorySetup:
    """One way to lay a training out in memory."""

    zero_stage: Literal[1, 2, 3]
    gradient_checkpointing: bool
    """Keep only each layer's input, and compute the rest again in the backward pass."""
    offload: frozenset[Offloaded] = frozenset()
    """What is kept in host memory, as ``train.offload`` names it."""

    def __str__(self) -> str:
        """Return the setup in words."""
        text = f"ZeRO-{self.zero_stage} {'with' if self.gradient_checkpointing else 'without'} gradient checkpointing"
        return f"{text} ({' and '.join(sorted(self.offload))} in host memory)" if self.offload else text


@dataclass(frozen=True)
class MemoryUse:
    """Peak bytes on one GPU, by part."""

    weights_bytes: int
    adapter_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    step_bytes: int
    """What the optimizer's step takes, when gradients of the pass, activations and logits are gone."""
    overhead_bytes: int = OVERHEAD_BYTES

    @property
    def total_bytes(self) -> int:
        """Everything together at the fuller of two moments: in a backward pass, or in the optimizer's step."""
        backward = self.gradients_bytes + self.activations_bytes + self.logits_bytes
        always = self.weights_bytes + self.adapter_bytes + self.optimizer_bytes + self.overhead_bytes
        return always + max(backward, self.step_bytes)

    def __str__(self) -> str:
        """Return the parts that count, in GiB."""
        parts = {part.name.removesuffix("_bytes"): getattr(self, part.name) / GIB for part in fields(self)}
        return ", ".join(f"{name} {gib:.1f}" for name, gib in parts.items() if gib >= 0.05)


def usable_bytes(memory_gib: float) -> int:
    """Return what may be planned for of a GPU with ``memory_gib`` GiB."""
    return int(USABLE_SHARE * memory_gib * GIB)


def memory_use(architecture: Architecture, train: TrainConfig, setup: MemorySetup, num_gpus: int) -> MemoryUse:
    """Return what one of ``num_gpus`` GPUs holds at its fullest.

    What each stage of ZeRO divides by the number of GPUs follows Rajbhandari et al. 2020, figure 1.
    """
    trained, optimizer_on_host = trained_parameters(architecture, train), "optimizer" in setup.offload
    tokens = tokens_per_pass(train)
    return MemoryUse(
        weights_bytes=_weights_bytes(architecture, setup, num_gpus),
        # ZeRO-3 leaves tensors of under 100,000 parameters whole (stage3_param_persistence_threshold): most of LoRA's.
        adapter_bytes=0 if train.method == "full" else BF16_BYTES * trained,
        gradients_bytes=_gradients_bytes(architecture, train, setup, num_gpus),
        optimizer_bytes=0 if optimizer_on_host else MASTER_AND_MOMENTS_BYTES * trained // num_gpus,
        activations_bytes=activations_bytes(architecture, train, setup.gradient_checkpointing),
        logits_bytes=LOGIT_BYTES * min(tokens, LOSS_CHUNK_TOKENS) * architecture.vocabulary_size,
        step_bytes=0 if optimizer_on_host else _step_bytes(trained // num_gpus, setup.zero_stage),
    )


def host_bytes(architecture: Architecture, train: TrainConfig, setup: MemorySetup, num_gpus: int) -> int:
    """Return the host memory that offloading takes for each of ``num_gpus`` GPUs."""
    optimizer = HOST_OPTIMIZER_BYTES * trained_parameters(architecture, train) if "optimizer" in setup.offload else 0
    weights = BF16_BYTES * architecture.parameters if "parameters" in setup.offload else 0
    return (optimizer + weights) // num_gpus


def trained_parameters(architecture: Architecture, train: TrainConfig) -> int:
    """Return the exact number of parameters that the optimizer changes."""
    if train.method == "full":
        return architecture.parameters
    return architecture.adapter_parameters(train.lora_rank, train.target_modules)


def tokens_per_pass(train: TrainConfig) -> int:
    """Return the most tokens that one GPU takes through the model at once."""
    return train.row_length


def _weights_bytes(architecture: Architecture, setup: MemorySetup, num_gpus: int) -> int:
    if setup.zero_stage < 3:
        return BF16_BYTES * architecture.parameters
    gathered = max(LIVE_PARAMETERS, architecture.largest_tensor) + PREFETCHED_PARAMETERS
    own_share = 0 if "parameters" in setup.offload else architecture.parameters // num_gpus
    return BF16_BYTES * min(own_share + gathered, architecture.parameters)


def _gradients_bytes(architecture: Architecture, train: TrainConfig, setup: MemorySetup, num_gpus: int) -> int:
    """Return the accumulated gradients, whole under ZeRO-1, and with full training the new one of the output head.

    With several chunks of the loss that one exists twice: the sum of the chunks so far, and the next chunk's.
    """
    trained = trained_parameters(architecture, train)
    accumulated = trained if setup.zero_stage == 1 else trained // num_gpus
    if setup.zero_stage > 1 and "optimizer" in setup.offload:
        accumulated = 0
    chunks = 2 if tokens_per_pass(train) > LOSS_CHUNK_TOKENS else 1
    new = chunks * architecture.largest_tensor if train.method == "full" else 0
    return BF16_BYTES * (accumulated + new)


def _step_bytes(own_parameters: int, zero_stage: int) -> int:
    if zero_stage < 3:
        return STEP_BYTES * own_parameters
    return BF16_BYTES * own_parameters + STEP_BYTES * min(own_parameters, SUB_GROUP_PARAMETERS)


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
    norms = 2 * FP32_BYTES * (hidden + 1)  # their input, and one reciprocal root
    attention = BF16_BYTES * (4 * queries + train.row_length)  # query, key, value and output; a row of the mask
    attention += FP32_BYTES * architecture.num_heads  # log-sum-exp
    gated_mlp = BF16_BYTES * 3 * mlp  # SiLU's input and output, and what it gates
    if train.method == "full":
        names = {linear.name for linear in architecture.linears}
        trained = _shared_inputs_bytes(architecture, names) + BF16_BYTES * 2 * hidden  # a trained norm keeps its output
    else:
        trained = _adapters_bytes(architecture, train)
    return norms + attention + gated_mlp + trained


def _adapters_bytes(architecture: Architecture, train: TrainConfig) -> int:
    """Return the bytes per token that the adapters of one layer keep."""
    adapted = architecture.adapted(train.target_modules)
    in_between = BF16_BYTES * train.lora_rank * len(adapted) // architecture.num_layers
    if train.lora_dropout:  # every adapter keeps its own thinned input and the mask
        inputs = sum(linear.inputs for linear in adapted) // architecture.num_layers
        return in_between + (BF16_BYTES + MASK_BYTES) * inputs
    return in_between + _shared_inputs_bytes(architecture, {linear.name for linear in adapted})


def _shared_inputs_bytes(architecture: Architecture, names: set[str]) -> int:
    """Return the bytes per token that linear maps of these names keep: query, key and value share their input.

    So do gate and up; the attention's output map keeps nothing that attention does not keep already.
    """
    of_attention = architecture.hidden_size if names & {"q_proj", "k_proj", "v_proj"} else 0
    of_mlp = architecture.hidden_size if names & {"gate_proj", "up_proj"} else 0
    of_down = architecture.mlp_size if "down_proj" in names else 0
    return BF16_BYTES * (of_attention + of_mlp + of_down)


def _working_bytes(architecture: Architecture) -> int:
    """Return the bytes per token in flight within one layer: two gradients as wide as the MLP, one of the stream."""
    return BF16_BYTES * 2 * architecture.mlp_size + FP32_BYTES * architecture.hidden_size
