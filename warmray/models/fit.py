"""Whether a training fits on given GPUs, how it is laid out there, and what would do where it does not fit."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from warmray.config import TrainConfig
from warmray.errors import InputError
from warmray.models.architecture import Architecture
from warmray.models.memory import GIB, ON_HOST, MemorySetup, host_bytes, memory_use, usable_bytes

MAX_GPUS = 1024
HOST_SETUP = MemorySetup(3, gradient_checkpointing=True, offload=ON_HOST)
"""What takes the least memory of a GPU."""


def fit_setup(
    train: TrainConfig, architecture: Architecture | None, num_gpus: int, gpu_memory_gib: float | None, gpu_name: str
) -> MemorySetup:
    """Return how a training in bfloat16 is laid out: as configured, with ``auto`` decided.

    Args:
        train: What is trained, and how.
        architecture: None where memory cannot be reckoned; then nothing is refused, and ``auto`` recomputes on a GPU.
        num_gpus: Of an elastic training the fewest: more hold less each.
        gpu_memory_gib: What torch reports as a GPU's total; None on a CPU, where nothing is refused or recomputed.
        gpu_name: For the message.

    Raises:
        InputError: it does not fit; the message says what it needs, what there is, and how many GPUs would do.
    """
    if architecture is None or gpu_memory_gib is None:
        checkpointing = train.gradient_checkpointing
        return _configured(train, gpu_memory_gib is not None if checkpointing == "auto" else checkpointing)
    setup = configured_setup(train, architecture, num_gpus, gpu_memory_gib)
    if not fits(train, architecture, setup, num_gpus, gpu_memory_gib):
        raise InputError(
            f"{architecture.name} does not fit on {num_gpus} x {gpu_name}: "
            + shortage(train, architecture, setup, num_gpus, gpu_memory_gib)
        )
    return setup


def configured_setup(
    train: TrainConfig, architecture: Architecture, num_gpus: int, gpu_memory_gib: float
) -> MemorySetup:
    """Return the setup that the configuration asks for; ``auto`` recomputes only what a GPU could not keep."""
    if train.gradient_checkpointing != "auto":
        return _configured(train, train.gradient_checkpointing)
    keeping = _configured(train, gradient_checkpointing=False)
    fitting = fits(train, architecture, keeping, num_gpus, gpu_memory_gib)
    return keeping if fitting else _configured(train, gradient_checkpointing=True)


def _configured(train: TrainConfig, gradient_checkpointing: bool) -> MemorySetup:
    return MemorySetup(train.zero_stage, gradient_checkpointing, frozenset(train.offload))


def fits(
    train: TrainConfig, architecture: Architecture, setup: MemorySetup, num_gpus: int, gpu_memory_gib: float
) -> bool:
    """Tell whether ``num_gpus`` GPUs hold the training in that setup."""
    return memory_use(architecture, train, setup, num_gpus).total_bytes <= usable_bytes(gpu_memory_gib)


def smallest_num_gpus(
    train: TrainConfig, architecture: Architecture, setup: MemorySetup, gpu_memory_gib: float
) -> int | None:
    """Return the fewest GPUs that hold the training in that setup; None where no number does."""
    # No part grows with the number of GPUs.
    smallest = 1 + bisect_left(
        range(1, MAX_GPUS + 1), True, key=lambda n: fits(train, architecture, setup, n, gpu_memory_gib)
    )
    return smallest if smallest <= MAX_GPUS else None


def shortage(
    train: TrainConfig, architecture: Architecture, setup: MemorySetup, num_gpus: int, gpu_memory_gib: float
) -> str:
    """Say what a setup needs that does not fit, what there is, and what would do."""
    use = memory_use(architecture, train, setup, num_gpus)
    remedies = _remedies(train, architecture, num_gpus, gpu_memory_gib)
    return (
        f"{setup} needs {use.total_bytes / GIB:.1f} GiB per GPU ({use}), and "
        f"{usable_bytes(gpu_memory_gib) / GIB:.1f} of its {gpu_memory_gib:g} GiB may be planned for: "
        + (", or ".join(remedies) or "no number of them does; take larger ones, or lower train.row_length")
    )


def _remedies(train: TrainConfig, architecture: Architecture, num_gpus: int, gpu_memory_gib: float) -> list[str]:
    """Return what would do: more GPUs as configured, then ways that take fewer, offloading the last of them."""
    asked = configured_setup(train, architecture, num_gpus, gpu_memory_gib)
    recomputing = replace(asked, gradient_checkpointing=True)
    ways = (asked, recomputing, replace(recomputing, zero_stage=3), HOST_SETUP)
    remedies, fewest = [], MAX_GPUS + 1
    for way in ways:
        smallest = smallest_num_gpus(train, architecture, way, gpu_memory_gib)
        if smallest is None or smallest >= fewest or fewest <= num_gpus:
            continue
        fewest = smallest
        parts = [f"take {smallest} of them"] if smallest > num_gpus else []
        settings = changed_settings(train, way)
        parts += [f"set {' '.join(settings)}"] if settings else []
        host_gib = host_bytes(architecture, train, way, max(smallest, num_gpus)) / GIB
        slow = f" (slow, and {host_gib:.1f} GiB of host memory per GPU)" if way.offload else ""
        remedies.append(" and ".join(parts) + slow)
    return remedies


def changed_settings(train: TrainConfig, setup: MemorySetup) -> list[str]:
    """Return the settings that would have to change for a setup, as ``--set`` takes them."""
    wanted: dict[str, int | bool | str] = {}
    if train.zero_stage != setup.zero_stage:
        wanted["zero_stage"] = setup.zero_stage
    if train.gradient_checkpointing not in (setup.gradient_checkpointing, "auto"):
        wanted["gradient_checkpointing"] = setup.gradient_checkpointing
    if set(train.offload) != setup.offload:
        wanted["offload"] = f"[{','.join(sorted(setup.offload))}]"
    return [f"train.{key}={value}".lower() for key, value in wanted.items()]
