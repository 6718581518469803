"""Where a training runs on the cluster: how many workers, on which device, and whether they can hold it."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from warmray.config import NumWorkers, TrainConfig
from warmray.errors import InputError
from warmray.models.architecture import (
    Architecture,
    check_target_modules,
    linear_names,
    meta_model,
    read_shape,
    transformers_config,
)
from warmray.models.gpu_fit import fit_setup
from warmray.models.loading import BaseCheckpoint
from warmray.models.memory import GIB


@dataclass(frozen=True)
class Device:
    """A GPU as torch sees it."""

    name: str
    memory_gib: float


@dataclass(frozen=True)
class Placement:
    """Workers of a training."""

    num_workers: int | tuple[int, int]
    """A fixed number, or the fewest and the most of an elastic training."""
    device: Device | None
    """Each worker's GPU; None on CPUs."""

    @property
    def fewest(self) -> int:
        """The smallest number of workers that the training may run on."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers


def find_placement(asked: NumWorkers) -> Placement:
    """Return the workers that the running Ray can give: on its GPUs if it has any, otherwise on CPUs.

    Raises:
        InputError: the cluster has fewer GPUs or CPUs than workers; Ray itself would wait for ever.
    """
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    available, kind = (gpus, "GPUs") if gpus else (cpus, "CPUs")
    wanted = (gpus or min(2, cpus)) if asked == "auto" else asked

    # A Ray task reads the GPU: the driver itself may run on a node without one.
    device = ray.get(ray.remote(num_gpus=1)(first_gpu).remote()) if gpus else None

    placement = Placement(wanted, device)
    if not 1 <= placement.fewest <= available:
        shown = list(asked) if isinstance(asked, tuple) else asked
        raise InputError(
            f"train.num_workers is {shown}, but the cluster has {available} {kind}: lower it, or add nodes"
        )
    return placement


def first_gpu() -> Device:
    """Return the first GPU that this process sees; torch raises if there is none."""
    import torch

    facts = torch.cuda.get_device_properties(0)
    return Device(facts.name, facts.total_memory / GIB)


@dataclass(frozen=True)
class Shape:
    """What the driver knows about a model without its weights."""

    parameters: int
    linear_names: list[str]
    architecture: Architecture | None
    """None if memory cannot be estimated: the layers are not those of a gated-MLP decoder."""


def read_base(base: BaseCheckpoint) -> Shape:
    """Build the model on the meta device and read its shape: no weights, no memory."""
    model = meta_model(transformers_config(str(base.folder)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    try:
        architecture = read_shape(str(base.folder), model)
    except InputError:
        architecture = None
    return Shape(parameters, linear_names(model), architecture)


def settle(train: TrainConfig, shape: Shape, placement: Placement) -> TrainConfig:
    """Return the configuration with ``gradient_checkpointing`` decided by the memory that the training needs.

    Raises:
        InputError: a target module does not exist, or the GPUs cannot hold the training; the message gives the
            estimate and the smallest number of GPUs that can.
    """
    check_target_modules(train.target_modules, shape.linear_names)
    device = placement.device
    memory_gib, name = (device.memory_gib, device.name) if device else (None, "CPU")
    setup = fit_setup(train, shape.architecture, placement.fewest, memory_gib, name)
    return train.model_copy(update={"gradient_checkpointing": setup.gradient_checkpointing})
