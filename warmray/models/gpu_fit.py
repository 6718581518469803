"""Whether a training fits on given GPUs, how it is placed in their memory, and what to change if it does not fit."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from warmray.config import TrainConfig
from warmray.errors import InputError
from warmray.models.architecture import Architecture
from warmray.models.memory import GIB, ON_HOST, MemorySetup, host_bytes, memory_use, usable_bytes

MAX_GPUS = 1024
HOST_SETUP = MemorySetup(3, gradient_checkpointing=True, offload=ON_HOST)
"""The setup that needs the least GPU memory."""


def fit_setup(
    train: TrainConfig, architecture: Architecture | None, num_gpus: int, gpu_memory_gib: float | None, gpu_name: str
) -> MemorySetup:
    """Return the memory setup of a bfloat16 training: as configured, with ``auto`` resolved.

    Args:
        train: The training's settings.
        architecture: None if memory cannot be estimated. Then nothing is refused, and ``auto`` recomputes on a GPU.
        num_gpus: For an elastic training the smallest number, because more GPUs hold less each.
        gpu_memory_gib: Total memory as torch reports it. None on a CPU: nothing is refused, and ``auto`` keeps all.
        gpu_name: For the error message.

    Raises:
        InputError: it does not fit. The message has the memory needed and available, and what to change.
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
    """Return the setup that the configuration asks for; ``auto`` recomputes only if the activations do not fit."""
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
    """Return whether the training fits on ``num_gpus`` GPUs in that setup."""
    return memory_use(architecture, train, setup, num_gpus).total_bytes <= usable_bytes(gpu_memory_gib)


def smallest_num_gpus(
    train: TrainConfig, architecture: Architecture, setup: MemorySetup, gpu_memory_gib: float
) -> int | None:
    """Return the smallest number of GPUs that holds the training in that setup; None if no number does."""
    # A bisection is valid because no part grows with the number of GPUs.
    smallest = 1 + bisect_left(
        range(1, MAX_GPUS + 1), True, key=lambda n: fits(train, architecture, setup, n, gpu_memory_gib)
    )
    return smallest if smallest <= MAX_GPUS else None


def shortage(
    train: TrainConfig, architecture: Architecture, setup: MemorySetup, num_gpus: int, gpu_memory_gib: float
) -> str:
    """Return in words what a setup that does not fit needs, what is available, and what to change."""
    # Candidates in the order in which they are proposed: more GPUs as configured, then setups that need less memory.
    asked = configured_setup(train, architecture, num_gpus, gpu_memory_gib)
    recomputing = replace(asked, gradient_checkpointing=True)
    candidates = (asked, recomputing, replace(recomputing, zero_stage=3), HOST_SETUP)

    # A candidate is proposed only if it needs fewer GPUs than those before it, until one fits on the available GPUs.
    remedies: list[str] = []
    fewest = MAX_GPUS + 1
    for candidate in candidates:
        smallest = smallest_num_gpus(train, architecture, candidate, gpu_memory_gib)
        if smallest is None or smallest >= fewest or fewest <= num_gpus:
            continue
        fewest = smallest
        parts = [f"use {smallest} GPUs"] if smallest > num_gpus else []
        settings = changed_settings(train, candidate)
        parts += [f"set {' '.join(settings)}"] if settings else []
        host_gib = host_bytes(architecture, train, candidate, max(smallest, num_gpus)) / GIB
        slow = f" (slow, needs {host_gib:.1f} GiB of host memory per GPU)" if candidate.offload else ""
        remedies.append(" and ".join(parts) + slow)

    use = memory_use(architecture, train, setup, num_gpus)
    return (
        f"{setup} needs {use.total_bytes / GIB:.1f} GiB per GPU ({use}), but only "
        f"{usable_bytes(gpu_memory_gib) / GIB:.1f} of {gpu_memory_gib:g} GiB are usable: "
        + (", or ".join(remedies) or "no number of these GPUs is enough; use larger ones, or lower train.row_length")
    )


def changed_settings(train: TrainConfig, setup: MemorySetup) -> list[str]:
    """Return the settings that must change to get a setup, in the form that ``--set`` accepts."""
    wanted: dict[str, int | bool | str] = {}
    if train.zero_stage != setup.zero_stage:
        wanted["zero_stage"] = setup.zero_stage
    if train.gradient_checkpointing not in (setup.gradient_checkpointing, "auto"):
        wanted["gradient_checkpointing"] = setup.gradient_checkpointing
    if set(train.offload) != setup.offload:
        wanted["offload"] = f"[{','.join(sorted(setup.offload))}]"
    return [f"train.{key}={value}".lower() for key, value in wanted.items()]
