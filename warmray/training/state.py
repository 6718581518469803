"""The resume state of a training: trainable weights and optimizer moments, whole, whatever the ZeRO stage.

DeepSpeed's own checkpoints are cut by rank and load only at the world size that wrote them. Here every tensor is
gathered, one after the other, and written once: a training resumes on more or fewer workers, and on another ZeRO
stage. Frozen weights are never written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from warmray.errors import InputError
from warmray.storage.hashing import file_digest
from warmray.training.shards import ShardWriter

STATE_NAME = "warmray_state.json"
WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")


class CorruptStateError(Exception):
    """A checkpoint is incomplete or was changed after it was written."""


def save_state(engine: Any, step: int, origin: dict[str, Any], folder: Path) -> None:
    """Write the state after ``step`` into ``folder`` from rank 0; every rank takes part.

    ``origin`` says what is trained on what, and how: a state goes on with the same only.
    """
    writer = ShardWriter(folder, "state") if dist.get_rank() == 0 else None
    for name, tensor in _gathered(engine):
        if writer is not None:
            writer.add(name, tensor)
    if writer is not None:
        facts = {"step": step, "optimizer_step": _optimizer_step(engine), "files": writer.close(), "origin": origin}
        (folder / STATE_NAME).write_text(json.dumps(facts, indent=2), encoding="utf-8")


def check_state(folder: Path) -> None:
    """Check that a state is whole.

    Raises:
        CorruptStateError: a file is missing or has another digest than when it was written.
    """
    try:
        files = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))["files"]
        damaged = [name for name, known in files.items() if file_digest(folder / name) != known]
    except (OSError, ValueError, KeyError) as error:
        raise CorruptStateError(f"{folder} holds no readable {STATE_NAME}: {error}") from error
    if damaged:
        raise CorruptStateError(f"{folder}: {', '.join(damaged)} changed after it was written")


def load_state(engine: Any, folder: Path, origin: dict[str, Any], prime: Callable[[], None]) -> int:
    """Put a state into a fresh engine on every rank and return the number of steps that were done.

    Args:
        engine: A DeepSpeed engine that has taken no step.
        folder: What :func:`save_state` wrote, at any world size and ZeRO stage.
        origin: What the training that goes on is of.
        prime: Takes one step with gradients of zero, so that the optimizer has moments to overwrite.

    Raises:
        InputError: the state is of another training; the message says what differs.
    """
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state
    from safetensors import safe_open

    facts = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    check_same_training(f"checkpoint {folder}", facts["origin"], origin)
    prime()
    trainable = dict(_trainable(engine))
    for file in facts["files"]:
        with safe_open(folder / file, framework="pt", device=str(engine.device)) as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a mapping
                kind, name = key.split("/", 1)
                if kind == WEIGHT:
                    safe_set_full_fp32_param(trainable[name], tensors.get_tensor(key))
                    _set_weight(trainable[name], tensors.get_tensor(key))
                else:
                    safe_set_full_optimizer_state(trainable[name], tensors.get_tensor(key), kind)
    for state in _optimizer_states(engine):
        state["step"] = torch.full_like(state["step"], facts["optimizer_step"])
    return int(facts["step"])


def check_same_training(where: str, recorded: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that a training may go on from what another attempt left.

    Raises:
        InputError: another model, corpus, arm or recipe; the message says what differs.
    """
    if recorded.get("training_key") == wanted.get("training_key"):
        return
    before, now = _flat(recorded), _flat(wanted)
    names = sorted(name for name in before.keys() & now.keys() if before[name] != now[name] and name != "training_key")
    differences = [f"{name} was {before[name]}, is {now[name]}" for name in names]
    raise InputError(
        f"{where} is of another training ({'; '.join(differences) or 'made by another version of warmray'}): "
        "set it as it was, or train under another name"
    )


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in facts.items() if name != "recipe"}
    return flat | {f"train.{name}": value for name, value in facts.get("recipe", {}).items()}


def _gathered(engine: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the master weight and moments of every trainable parameter, in float32 and whole, on every rank."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    for name, parameter in _trainable(engine):
        yield f"{WEIGHT}/{name}", safe_get_full_fp32_param(parameter)
        for moment in MOMENTS:
            yield f"{moment}/{name}", safe_get_full_optimizer_state(parameter, moment)


def _trainable(engine: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]


def _set_weight(parameter: torch.nn.Parameter, value: torch.Tensor) -> None:
    """Write the weight that the model computes with, which DeepSpeed derives from the master weight only at a step."""
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=hasattr(parameter, "ds_id")):
        if parameter.shape == value.shape:  # under ZeRO-3 the other ranks are given rank 0's
            parameter.data.copy_(value)


def _optimizer_states(engine: Any) -> list[dict[str, Any]]:
    return [state for state in engine.optimizer.optimizer.state.values() if "step" in state]


def _optimizer_step(engine: Any) -> float:
    return float(_optimizer_states(engine)[0]["step"])
