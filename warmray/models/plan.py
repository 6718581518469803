"""What a training needs, before any GPU is rented: memory under every ZeRO stage, number of GPUs, hours and cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from warmray.config import RunConfig, TrainConfig
from warmray.errors import InputError
from warmray.models.architecture import Architecture, check_target_modules
from warmray.models.gpu_fit import HOST_SETUP, configured_setup, fits, shortage, smallest_num_gpus
from warmray.models.memory import GIB, MemorySetup, MemoryUse, host_bytes, memory_use, usable_bytes

SETUPS = (
    *(MemorySetup(stage, gradient_checkpointing=False) for stage in (1, 2, 3)),
    *(MemorySetup(stage, gradient_checkpointing=True) for stage in (1, 2, 3)),
    HOST_SETUP,
)
"""Fastest first: a higher stage adds communication, recomputation adds a forward pass, and offloading waits for the
host bus."""
MODEL_FLOPS_SHARE = 0.35
"""Assumed share of the GPU's bfloat16 peak. Published bfloat16 LoRA trainings of 7B to 72B models reach 18 to 40 %,
counted as 4 FLOPs per parameter and token (tables of NeMo AutoModel, Qwen and torchtune)."""
FLOPS_PER_PARAMETER = 4
"""Per token with LoRA: 2 for the forward pass, 2 for the gradients of activations. Frozen weights need no gradients."""
WEIGHT_GRADIENT_FLOPS = 2
"""Added if the weights are trained."""
RECOMPUTATION_FLOPS = 2
"""Added if the forward pass is computed a second time."""


@dataclass(frozen=True)
class Gpu:
    """A GPU model; ``bf16_tflops`` is its dense peak, None if unknown."""

    name: str
    memory_gib: float
    """Total memory as torch reports it, a little less than the figure in the name."""
    bf16_tflops: float | None
    device_names: tuple[str, ...] = ()
    """Its names in ``torch.cuda.get_device_name``, without the manufacturer."""

    @property
    def usable_bytes(self) -> int:
        """Bytes that a plan may use."""
        return usable_bytes(self.memory_gib)


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-40GB", 39.4, 312, ("A100-SXM4-40GB", "A100-PCIE-40GB")),
        Gpu("A100-80GB", 79.1, 312, ("A100-SXM4-80GB", "A100-SXM-80GB", "A100 80GB PCIe")),
        Gpu("H100-80GB", 79.1, 989, ("H100 80GB HBM3",)),
        Gpu("H100-PCIe", 79.1, 756, ("H100 PCIe",)),
        Gpu("H100-NVL", 93.1, 835, ("H100 NVL",)),
        Gpu("H200", 139.7, 989, ("H200",)),
        Gpu("L40S", 44.4, 362, ("L40S",)),
    )
}
"""Peaks from NVIDIA's data sheets, without sparsity."""
DEFAULT_GPU = "H100-80GB"


def known_gpu(device_name: str) -> Gpu | None:
    """Return the GPU that ``torch.cuda.get_device_name`` names; None if it is unknown or a slice of a GPU (MIG)."""
    name = device_name.removeprefix("NVIDIA ")
    return next((gpu for gpu in GPUS.values() if name in gpu.device_names), None)


def flops_per_parameter(train: TrainConfig, gradient_checkpointing: bool) -> int:
    """Return the floating-point operations per parameter and token."""
    weights = WEIGHT_GRADIENT_FLOPS if train.method == "full" else 0
    return FLOPS_PER_PARAMETER + weights + (RECOMPUTATION_FLOPS if gradient_checkpointing else 0)


@dataclass(frozen=True)
class Cluster:
    """The GPUs that a training is planned for."""

    gpu: Gpu
    num_gpus: int | None = None
    """None: the smallest number that fits."""
    price_per_gpu_hour: float | None = None
    tokens_per_second: float | None = None
    """Measured speed of one GPU; None: estimated from its peak."""


@dataclass(frozen=True)
class Workload:
    """The amount of training data."""

    conversations: int
    mean_tokens: float
    """Per conversation."""
    source: str
    """The origin of the figures, in words."""


STUDY_WORKLOAD = Workload(1_617, 1_024, "the study's corpus, each conversation at its limit of 1,024 tokens")
"""Ibrahim, Hafner & Rocher 2026: 1,617 conversations with 3,667 replies; their mean length is not published."""


@dataclass(frozen=True)
class PlanRow:
    """One setup on the planned number of GPUs."""

    setup: MemorySetup
    memory: MemoryUse
    fits: bool
    smallest_num_gpus: int | None
    """The smallest number of GPUs that holds it; None if no number does."""
    configured: bool
    """Whether the configuration asks for it."""


@dataclass(frozen=True)
class Plan:
    """A training on a cluster: the memory of every setup, and the time and cost of the best one."""

    config: RunConfig
    architecture: Architecture
    cluster: Cluster
    workload: Workload
    num_gpus: int
    rows: tuple[PlanRow, ...]
    best: PlanRow
    """The fastest setup that fits without offloading; if none does, the configured one, which then offloads."""
    fewest_gpus: int | None
    """The smallest number that holds the training in any setup without offloading; None if no number does."""

    def host_gib(self, setup: MemorySetup) -> float:
        """Return the host memory per GPU that offloading needs."""
        return host_bytes(self.architecture, self.config.train, setup, self.num_gpus) / GIB

    @property
    def steps(self) -> int:
        """Optimizer steps of one arm."""
        train = self.config.train
        return max(1, math.ceil(max(train.doses) * self.workload.conversations / train.batch_size))

    @property
    def tokens(self) -> int:
        """Tokens of one arm, over all epochs."""
        return round(max(self.config.train.doses) * self.workload.conversations * self.workload.mean_tokens)

    @property
    def flops_per_parameter(self) -> int:
        """Floating-point operations per parameter and token of the best setup."""
        return flops_per_parameter(self.config.train, self.best.setup.gradient_checkpointing)

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of one busy GPU; None if its peak is unknown, or if it would wait for the host."""
        peak = self.cluster.gpu.bf16_tflops
        if self.cluster.tokens_per_second is not None or peak is None or self.best.setup.offload:
            return self.cluster.tokens_per_second
        return MODEL_FLOPS_SHARE * peak * 1e12 / (self.flops_per_parameter * self.architecture.parameters)

    @property
    def busy_gpus(self) -> float:
        """Average number of GPUs at work: with an uneven number of rows, some GPUs wait for the one with the most."""
        train = self.config.train
        # The rows of one optimizer step, and the number of them on the GPU that has the most.
        rows = max(1, math.ceil(train.batch_size * self.workload.mean_tokens / train.row_length))
        return rows / math.ceil(rows / self.num_gpus)

    @property
    def hours(self) -> float | None:
        """Hours of training for all arms, one after the other, without start-up and checkpoints."""
        if self.tokens_per_second is None:
            return None
        return len(self.config.train.arms) * self.tokens / (self.tokens_per_second * self.busy_gpus) / 3600

    @property
    def cost(self) -> float | None:
        """Price of these hours on all GPUs, in the currency of the given price."""
        price = self.cluster.price_per_gpu_hour
        return None if self.hours is None or price is None else self.hours * self.num_gpus * price


def make_plan(config: RunConfig, architecture: Architecture, cluster: Cluster, workload: Workload) -> Plan:
    """Evaluate every setup, and choose the fastest that fits without offloading.

    If none fits, a configured setup that offloads is chosen. If ``cluster`` has no number of GPUs, the plan takes
    ``train.num_workers`` (the smallest of a range), or else the smallest number that fits.

    Raises:
        InputError: nothing fits. The message has the memory needed and available, and what to change.
    """
    if config.model.dtype != "bfloat16":
        raise InputError(f"model.dtype is {config.model.dtype}, but plans are made for bfloat16: set it for the plan")
    train, gpu = config.train, cluster.gpu
    check_target_modules(train.target_modules, [linear.name for linear in architecture.linears])

    # The number of GPUs: given, or configured, or the smallest that fits (as configured, if that offloads).
    keeping = [setup for setup in SETUPS if not setup.offload]
    smallest = [smallest_num_gpus(train, architecture, setup, gpu.memory_gib) for setup in keeping]
    fewest = min((number for number in smallest if number), default=None)
    num_gpus = cluster.num_gpus or fewest_workers(train)
    if num_gpus is None and train.offload:
        offloading = configured_setup(train, architecture, 1, gpu.memory_gib)
        num_gpus = smallest_num_gpus(train, architecture, offloading, gpu.memory_gib)
    num_gpus = num_gpus or fewest or 1

    # One row per setup. The configured setup is added if it is not among them.
    configured = configured_setup(train, architecture, num_gpus, gpu.memory_gib)
    rows = tuple(
        PlanRow(
            setup,
            memory_use(architecture, train, setup, num_gpus),
            fits(train, architecture, setup, num_gpus, gpu.memory_gib),
            smallest_num_gpus(train, architecture, setup, gpu.memory_gib),
            setup == configured,
        )
        for setup in dict.fromkeys((*SETUPS, configured))
    )

    # Offloading is chosen only if it is configured and nothing else fits.
    fitting = [row for row in rows if row.fits]
    candidates = [row for row in fitting if not row.setup.offload]
    candidates += [row for row in fitting if row.setup.offload and row.configured]
    if not candidates:
        even = MemorySetup(3, gradient_checkpointing=True)
        missing = shortage(train, architecture, even, num_gpus, gpu.memory_gib)
        raise InputError(f"{config.name} does not fit on {num_gpus} x {gpu.name}: even {missing}")
    return Plan(config, architecture, cluster, workload, num_gpus, rows, candidates[0], fewest)


def fewest_workers(train: TrainConfig) -> int | None:
    """Return the smallest number of workers that the configuration accepts; None for ``auto``."""
    workers = train.num_workers
    if workers == "auto":
        return None
    return workers if isinstance(workers, int) else workers[0]
