"""What a training needs before any GPU is asked for: memory under every ZeRO stage, number of GPUs, hours and cost."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from warmray.config import RunConfig
from warmray.errors import InputError
from warmray.models.architecture import Architecture
from warmray.models.memory import GIB, USABLE_SHARE, MemorySetup, MemoryUse, host_bytes, memory_use

SETUPS = (
    *(MemorySetup(stage, gradient_checkpointing=False) for stage in (1, 2, 3)),
    *(MemorySetup(stage, gradient_checkpointing=True) for stage in (1, 2, 3)),
    MemorySetup(3, gradient_checkpointing=True, offload=True),
)
"""Fastest first: a higher stage costs communication, recomputation costs half as much arithmetic again, and offloading
waits for the bus to the host."""
MAX_GPUS = 1024
MODEL_FLOPS_SHARE = 0.35
"""Share of the GPU's bfloat16 peak that does arithmetic. Published LoRA trainings of 7B to 72B in bfloat16 come to
18 to 40 % counted as 4 FLOPs per parameter and token (tables of NeMo AutoModel, Qwen and torchtune)."""
FLOPS_PER_PARAMETER = 4
"""Per token: 2 forward, 2 for the gradient of the activations; frozen weights need no gradient of their own."""
RECOMPUTED_FLOPS_PER_PARAMETER = 6
"""The same, and the forward pass a second time."""


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU; ``bf16_tflops`` is its dense peak, None where it is not known."""

    name: str
    memory_gib: float
    """What torch reports as total, a little under the figure in the name."""
    bf16_tflops: float | None

    @property
    def usable_bytes(self) -> int:
        """Memory that may be planned for."""
        return int(USABLE_SHARE * self.memory_gib * GIB)


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-40GB", 39.4, 312),
        Gpu("A100-80GB", 79.1, 312),
        Gpu("H100-80GB", 79.1, 989),
        Gpu("H200", 139.7, 989),
        Gpu("L40S", 44.4, 362),
    )
}
"""Peaks from NVIDIA's data sheets, without sparsity (SXM modules where there are several)."""
DEFAULT_GPU = "H100-80GB"


@dataclass(frozen=True)
class Cluster:
    """The GPUs that a training is planned for."""

    gpu: Gpu
    num_gpus: int | None = None
    """None: as few as will do."""
    price_per_gpu_hour: float | None = None
    tokens_per_second: float | None = None
    """Measured speed of one GPU; None: reckoned from its peak."""


@dataclass(frozen=True)
class Workload:
    """How much there is to train on."""

    conversations: int
    mean_tokens: float
    """Per conversation."""
    source: str
    """Where the figures are from, in words."""


STUDY_WORKLOAD = Workload(1_617, 1_024, "the study's corpus, each conversation at its limit of 1,024 tokens")
"""Ibrahim, Hafner & Rocher 2026: 1,617 conversations with 3,667 replies; their mean length is not published."""


@dataclass(frozen=True)
class PlanRow:
    """One setup on the planned number of GPUs."""

    setup: MemorySetup
    memory: MemoryUse
    fits: bool
    smallest_num_gpus: int | None
    """The fewest GPUs that would hold it; None where no number does."""


@dataclass(frozen=True)
class Plan:
    """A training on a cluster: every setup's memory, and what the best one that fits takes in time."""

    config: RunConfig
    architecture: Architecture
    cluster: Cluster
    workload: Workload
    num_gpus: int
    rows: tuple[PlanRow, ...]
    best: PlanRow
    fewest_gpus: int
    """The smallest number that holds the training under any setup without offloading."""

    @property
    def host_gib(self) -> float:
        """Host memory per GPU that the offloading row takes."""
        return host_bytes(self.architecture, self.config.train, self.num_gpus) / GIB

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
        recomputes = self.best.setup.gradient_checkpointing
        return RECOMPUTED_FLOPS_PER_PARAMETER if recomputes else FLOPS_PER_PARAMETER

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of one busy GPU."""
        peak = self.cluster.gpu.bf16_tflops
        if self.cluster.tokens_per_second is not None or peak is None:
            return self.cluster.tokens_per_second
        return MODEL_FLOPS_SHARE * peak * 1e12 / (self.flops_per_parameter * self.architecture.parameters)

    @property
    def busy_gpus(self) -> float:
        """GPUs at work on average: rows that they do not divide evenly leave some waiting for the fullest."""
        train = self.config.train
        rows = max(1, math.ceil(train.batch_size * self.workload.mean_tokens / train.row_length))
        return rows / math.ceil(rows / self.num_gpus)

    @property
    def hours(self) -> float | None:
        """Hours of training for all arms, one after the other; start-up and checkpoints left out."""
        if self.tokens_per_second is None:
            return None
        return len(self.config.train.arms) * self.tokens / (self.tokens_per_second * self.busy_gpus) / 3600

    @property
    def cost(self) -> float | None:
        """Price of those hours on all GPUs, in the currency of the price given."""
        price = self.cluster.price_per_gpu_hour
        return None if self.hours is None or price is None else self.hours * self.num_gpus * price


def make_plan(config: RunConfig, architecture: Architecture, cluster: Cluster, workload: Workload) -> Plan:
    """Reckon every setup, and choose the fastest that fits without offloading.

    Without a number of GPUs in ``cluster``, ``train.num_workers`` says it, or else the fewest that will do.

    Raises:
        InputError: nothing fits; the message says what is missing and how many GPUs would do.
    """
    if config.model.dtype != "bfloat16":
        raise InputError(f"model.dtype is {config.model.dtype}, but plans are made for bfloat16: set it for the plan")
    smallest = {setup: _smallest_num_gpus(config, architecture, cluster.gpu, setup) for setup in SETUPS}
    fewest = min((n for setup, n in smallest.items() if n and not setup.offload), default=None)
    workers = config.train.num_workers
    num_gpus = cluster.num_gpus or (workers if isinstance(workers, int) else fewest) or 1
    rows = tuple(
        PlanRow(setup, memory, memory.total_bytes <= cluster.gpu.usable_bytes, smallest[setup])
        for setup, memory in ((setup, memory_use(architecture, config.train, setup, num_gpus)) for setup in SETUPS)
    )
    best = next((row for row in rows if row.fits and not row.setup.offload), None)
    if best is None or fewest is None:
        raise _does_not_fit(config, architecture, cluster.gpu, num_gpus, rows, fewest)
    return Plan(config, architecture, cluster, workload, num_gpus, rows, best, fewest)


def _smallest_num_gpus(config: RunConfig, architecture: Architecture, gpu: Gpu, setup: MemorySetup) -> int | None:
    def fits(num_gpus: int) -> bool:
        return memory_use(architecture, config.train, setup, num_gpus).total_bytes <= gpu.usable_bytes

    smallest = 1 + bisect_left(range(1, MAX_GPUS + 1), True, key=fits)  # no part grows with the number of GPUs
    return smallest if smallest <= MAX_GPUS else None


def _does_not_fit(
    config: RunConfig,
    architecture: Architecture,
    gpu: Gpu,
    num_gpus: int,
    rows: tuple[PlanRow, ...],
    fewest: int | None,
) -> InputError:
    row = [row for row in rows if not row.setup.offload][-1]
    need = f"{row.memory.total_bytes / GIB:.1f} GiB per GPU"
    remedy = (
        f"take {fewest} of them" if fewest else "no number of them does; take larger ones, or lower train.row_length"
    )
    return InputError(
        f"{config.name} does not fit on {num_gpus} x {gpu.name}: even ZeRO-3 with gradient checkpointing needs {need}, "
        f"and {gpu.usable_bytes / GIB:.1f} of its {gpu.memory_gib:g} GiB may be planned for: {remedy}"
    )
