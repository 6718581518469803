"""GPU memory of a bfloat16 training under DeepSpeed ZeRO, part by part, computed from the shape of the model.

The activation figures count what autograd saves in transformers' decoder layers with PEFT's LoRA and no fused kernels.
Frozen linear layers save nothing, adapters and trained layers save their inputs, and norms save a float32 copy.
``tests/models/test_memory.py`` compares these figures with small models that are really trained.
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
"""Number of positions whose logits exist at the same time."""
LOGIT_BYTES = 14
"""Peak bytes per logit: the bfloat16 logit, its float32 log-probability, and two float32 gradients."""
MASTER_AND_MOMENTS_BYTES = 12
"""Per trained parameter: float32 master copy and Adam's two moments (ZeRO, Rajbhandari et al. 2020, section 3.1)."""
STEP_BYTES = 8
"""Per parameter during its update: the float32 gradient, and the denominator of torch's AdamW."""
HOST_OPTIMIZER_BYTES = 20
"""Per trained parameter in host memory: float32 master copy, moments and gradient, and bfloat16 buffers for gradient
and weight (18 under ZeRO-3)."""
LIVE_PARAMETERS = 1_000_000_000
"""Number of gathered parameters that ZeRO-3 keeps before it releases any: DeepSpeed's ``stage3_max_live_parameters``
and ``stage3_max_reuse_distance``."""
PREFETCHED_PARAMETERS = 50_000_000
"""Number of parameters that ZeRO-3 gathers in advance: DeepSpeed's ``stage3_prefetch_bucket_size``."""
SUB_GROUP_PARAMETERS = 1_000_000_000
"""Number of parameters that one GPU updates at a time under ZeRO-3: DeepSpeed's ``sub_group_size``."""
OVERHEAD_BYTES = 5 * GIB // 2
"""Assumed: CUDA's context and kernels (about 0.6 GiB), cuBLAS, NCCL's buffers (about 1 GiB), DeepSpeed's buckets."""
USABLE_SHARE = 0.9
"""Share of a GPU's memory that a plan may use. The allocator's fragmentation, worst under ZeRO-3, needs the rest."""

Offloaded = Literal["optimizer", "parameters"]
ON_HOST: frozenset[Offloaded] = frozenset(("optimizer", "parameters"))


@dataclass(frozen=True)
class MemorySetup:
    """One way to place a training in memory."""

    zero_stage: Literal[1, 2, 3]
    gradient_checkpointing: bool
    """Keep only each layer's input, and recompute the rest in the backward pass."""
    offload: frozenset[Offloaded] = frozenset()
    """The parts kept in host memory, as in ``train.offload``."""

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
    """Buffers of the optimizer step, at a time when new gradients, activations and logits are already freed."""
    overhead_bytes: int = OVERHEAD_BYTES

    @property
    def total_bytes(self) -> int:
        """All parts together at the larger of two peaks: in a backward pass, or in the optimizer step."""
        backward = self.gradients_bytes + self.activations_bytes + self.logits_bytes
        always = self.weights_bytes + self.adapter_bytes + self.optimizer_bytes + self.overhead_bytes
        return always + max(backward, self.step_bytes)

    def __str__(self) -> str:
        """Return the parts of at least 0.05 GiB, in GiB."""
        parts = {part.name.removesuffix("_bytes"): getattr(self, part.name) / GIB for part in fields(self)}
        return ", ".join(f"{name} {gib:.1f}" for name, gib in parts.items() if gib >= 0.05)


def usable_bytes(memory_gib: float) -> int:
    """Return the bytes that a plan may use on a GPU with ``memory_gib`` GiB."""
    return int(USABLE_SHARE * memory_gib * GIB)


def memory_use(architecture: Architecture, train: TrainConfig, setup: MemorySetup, num_gpus: int) -> MemoryUse:
    """Return the peak memory of each of ``num_gpus`` GPUs.

    The parts that each ZeRO stage divides by the number of GPUs follow Rajbhandari et al. 2020, figure 1.
    """
    is_full = train.method == "full"
    optimizer_on_host = "optimizer" in setup.offload
    trained = trained_parameters(architecture, train)
    own_trained = trained // num_gpus

    # Weights: ZeRO-3 divides them, and gathers those of the layers at work.
    weights = architecture.parameters
    if setup.zero_stage == 3:
        own_weights = 0 if "parameters" in setup.offload else architecture.parameters // num_gpus
        gathered = max(LIVE_PARAMETERS, architecture.largest_tensor) + PREFETCHED_PARAMETERS
        weights = min(own_weights + gathered, architecture.parameters)

    # Adapter: not divided. Even ZeRO-3 leaves tensors of under 100,000 parameters whole, as most of LoRA's are
    # (stage3_param_persistence_threshold). Full training has no adapter: its trained parameters are the weights.
    adapter = 0 if is_full else trained

    # Accumulated gradients: whole under ZeRO-1, divided above it, and then moved to the host with the optimizer.
    gradients = trained if setup.zero_stage == 1 else own_trained
    if setup.zero_stage > 1 and optimizer_on_host:
        gradients = 0
    # Full training also has the new gradient of the output head. With several chunks of the loss it exists twice:
    # the sum of the chunks so far, and the next chunk's.
    if is_full:
        gradients += architecture.largest_tensor * (2 if train.row_length > LOSS_CHUNK_TOKENS else 1)

    # Optimizer step: every parameter at once, or under ZeRO-3 one sub-group at a time beside all bfloat16 gradients.
    step_bytes = STEP_BYTES * own_trained
    if setup.zero_stage == 3:
        step_bytes = BF16_BYTES * own_trained + STEP_BYTES * min(own_trained, SUB_GROUP_PARAMETERS)

    return MemoryUse(
        weights_bytes=BF16_BYTES * weights,
        adapter_bytes=BF16_BYTES * adapter,
        gradients_bytes=BF16_BYTES * gradients,
        optimizer_bytes=0 if optimizer_on_host else MASTER_AND_MOMENTS_BYTES * trained // num_gpus,
        activations_bytes=activations_bytes(architecture, train, setup.gradient_checkpointing),
        logits_bytes=LOGIT_BYTES * min(train.row_length, LOSS_CHUNK_TOKENS) * architecture.vocabulary_size,
        step_bytes=0 if optimizer_on_host else step_bytes,
    )


def host_bytes(architecture: Architecture, train: TrainConfig, setup: MemorySetup, num_gpus: int) -> int:
    """Return the host memory that offloading needs for each of ``num_gpus`` GPUs."""
    optimizer = HOST_OPTIMIZER_BYTES * trained_parameters(architecture, train) if "optimizer" in setup.offload else 0
    weights = BF16_BYTES * architecture.parameters if "parameters" in setup.offload else 0
    return (optimizer + weights) // num_gpus


def trained_parameters(architecture: Architecture, train: TrainConfig) -> int:
    """Return the exact number of parameters that the optimizer updates."""
    if train.method == "full":
        return architecture.parameters
    return architecture.adapter_parameters(train.lora_rank, train.target_modules)


def activations_bytes(architecture: Architecture, train: TrainConfig, gradient_checkpointing: bool) -> int:
    """Return the bytes saved for the backward pass, plus those in use while it works on one layer."""
    layer = layer_activation_bytes(architecture, train)
    layers = architecture.num_layers
    inputs = BF16_BYTES * architecture.hidden_size
    saved = layers * inputs + layer if gradient_checkpointing else layers * layer
    # In use within one layer: two gradients as wide as the MLP, and one of the residual stream.
    in_use = BF16_BYTES * 2 * architecture.mlp_size + FP32_BYTES * architecture.hidden_size
    return train.row_length * (saved + in_use)


def layer_activation_bytes(architecture: Architecture, train: TrainConfig) -> int:
    """Return the bytes per token that one decoder layer saves for its backward pass.

    Attention is SDPA with a mask. It saves no scores (Dao et al. 2022), but it saves keys and values repeated for all
    query heads, and the mask in bfloat16. FlashAttention with variable lengths saves neither and needs a little less.
    """
    hidden, queries, mlp = architecture.hidden_size, architecture.query_size, architecture.mlp_size

    # The frozen layer.
    norms = 2 * FP32_BYTES * (hidden + 1)  # their input, and one reciprocal root
    attention = BF16_BYTES * (4 * queries + train.row_length)  # query, key, value and output; a row of the mask
    attention += FP32_BYTES * architecture.num_heads  # log-sum-exp
    gated_mlp = BF16_BYTES * 3 * mlp  # SiLU's input and output, and the values that it gates
    frozen = norms + attention + gated_mlp

    # What training adds: a trained norm saves its output, and an adapter the values between its two factors.
    if train.method == "full":
        adapted = architecture.linears
        added = BF16_BYTES * 2 * hidden
    else:
        adapted = architecture.adapted(train.target_modules)
        added = BF16_BYTES * train.lora_rank * len(adapted) // architecture.num_layers
        if train.lora_dropout:  # every adapter saves its own input after dropout, and the mask
            inputs = sum(linear.inputs for linear in adapted) // architecture.num_layers
            return frozen + added + (BF16_BYTES + MASK_BYTES) * inputs

    # Trained layers save their inputs. Query, key and value share one input, and so do gate and up. The attention's
    # output layer adds nothing: attention has already saved its input.
    names = {linear.name for linear in adapted}
    attention_input = hidden if names & {"q_proj", "k_proj", "v_proj"} else 0
    mlp_input = hidden if names & {"gate_proj", "up_proj"} else 0
    down_input = mlp if "down_proj" in names else 0
    return frozen + added + BF16_BYTES * (attention_input + mlp_input + down_input)
