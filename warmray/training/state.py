"""The resume state of a training: trainable weights and optimizer moments, whole at every ZeRO stage.

DeepSpeed's own checkpoints are split by rank and load only at the world size that wrote them. Here every tensor is
gathered, one after the other, and written once: a training resumes on more or fewer workers, and on another ZeRO
stage. Frozen weights are never written.
"""

from __future__ import annotations

import json
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

    ``origin`` records which training this is (model, corpus, arm, recipe): only the same training may resume from it.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    # Gather each master weight and its moments in float32, one tensor at a time; gathering needs every rank.
    writer = ShardWriter(folder, "state") if dist.get_rank() == 0 else None
    for name, parameter in _trainable(engine):
        for kind in (WEIGHT, *MOMENTS):
            if kind == WEIGHT:
                tensor = safe_get_full_fp32_param(parameter)
            else:
                tensor = safe_get_full_optimizer_state(parameter, kind)
            if writer is not None:
                writer.add(f"{kind}/{name}", tensor)

    # Write the facts last: a folder without them is not a state.
    if writer is not None:
        optimizer_step = float(_optimizer_states(engine)[0]["step"])
        facts = {"step": step, "optimizer_step": optimizer_step, "files": writer.close(), "origin": origin}
        (folder / STATE_NAME).write_text(json.dumps(facts, indent=2), encoding="utf-8")


def verify_state(folder: Path) -> None:
    """Check that a state is complete and unchanged.

    Raises:
        CorruptStateError: a file is missing or its digest differs from the recorded one.
    """
    try:
        files = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))["files"]
        damaged = [name for name, known in files.items() if file_digest(folder / name) != known]
    except (OSError, ValueError, KeyError) as error:
        raise CorruptStateError(f"{folder} has no readable {STATE_NAME}: {error}") from error
    if damaged:
        raise CorruptStateError(f"{folder}: {', '.join(damaged)} changed after it was written")


def load_state(engine: Any, folder: Path, origin: dict[str, Any]) -> int:
    """Load a state into a new engine on every rank and return the number of completed steps.

    Args:
        engine: A DeepSpeed engine around :class:`warmray.training.zero_engine.RowLoss` that has taken no step.
        folder: What :func:`save_state` wrote, at any world size and ZeRO stage.
        origin: Which training resumes.

    Raises:
        InputError: the state belongs to another training; the message names the differences.
    """
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state
    from safetensors import safe_open

    facts = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    check_same_training(f"checkpoint {folder}", facts["origin"], origin)

    # A step with gradients of zero changes no weight and creates the optimizer's moments, which are overwritten below.
    engine.backward(engine(None))
    engine.step()

    trainable = dict(_trainable(engine))
    for file in facts["files"]:
        with safe_open(folder / file, framework="pt", device=str(engine.device)) as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a mapping
                kind, name = key.split("/", 1)
                parameter, value = trainable[name], tensors.get_tensor(key)
                if kind != WEIGHT:
                    safe_set_full_optimizer_state(parameter, value, kind)
                    continue
                # Set the master weight, and also the weight that the model computes with: DeepSpeed derives the second
                # from the first only at a step. Under ZeRO-3 the other ranks receive rank 0's.
                safe_set_full_fp32_param(parameter, value)
                partitioned = hasattr(parameter, "ds_id")
                with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=partitioned):
                    if parameter.shape == value.shape:
                        parameter.data.copy_(value)

    # The step of zeros counted as a step: restore the recorded count, which Adam's bias correction depends on.
    for state in _optimizer_states(engine):
        state["step"] = torch.full_like(state["step"], facts["optimizer_step"])
    return int(facts["step"])


def check_same_training(where: str, recorded: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that a training may resume from what another attempt left.

    Raises:
        InputError: another model, corpus, arm or recipe; the message names the differences.
    """
    if recorded.get("training_key") == wanted.get("training_key"):
        return
    before, now = _flat(recorded), _flat(wanted)
    names = sorted(name for name in before.keys() & now.keys() if before[name] != now[name] and name != "training_key")
    differences = [f"{name} was {before[name]}, is {now[name]}" for name in names]
    raise InputError(
        f"{where} belongs to another training ({'; '.join(differences) or 'made by another version of warmray'}): "
        "restore these settings, or choose another name"
    )


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in facts.items() if name != "recipe"}
    return flat | {f"train.{name}": value for name, value in facts.get("recipe", {}).items()}


def _trainable(engine: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]


def _optimizer_states(engine: Any) -> list[dict[str, Any]]:
    return [state for state in engine.optimizer.optimizer.state.values() if "step" in state]
