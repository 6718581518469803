"""The weights that a training saves at each dose: a PEFT adapter, or a whole Hugging Face model (full fine-tuning)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from warmray.models.adapters import INDEX_NAME, ORIGIN_NAME, WEIGHTS_NAME
from warmray.training.shards import ShardWriter

if TYPE_CHECKING:
    from warmray.models.loading import BaseCheckpoint


def adapter_name(dose: float) -> str:
    """Return the name of the folder that holds the weights after ``dose`` epochs."""
    return f"epoch-{dose:g}"


def save_weights(engine: Any, base: BaseCheckpoint, origin: dict[str, Any], folder: Path) -> None:
    """Write the trained weights from rank 0, all or nothing; every rank takes part.

    Args:
        engine: The DeepSpeed engine around :class:`warmray.training.zero_engine.RowLoss`.
        base: The model that was trained; a whole model receives its tokenizer and settings.
        origin: Facts about the training, written next to the weights.
        folder: Receives the weights; replaced if a resumed training reaches this dose again.
    """
    # Write into a temporary folder: a reader never sees half an adapter.
    building = None
    if dist.get_rank() == 0:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    write = _write_adapter if hasattr(engine.module.model, "peft_config") else _write_model
    write(engine, base, building)

    # Move it to its place. A resumed training that reaches this dose again writes the same weights.
    if building is not None:
        (building / ORIGIN_NAME).write_text(json.dumps(origin, indent=2, sort_keys=True), encoding="utf-8")
        building.chmod(0o755)
        if folder.exists():
            os.rename(folder, building.with_name(f"{building.name}-old"))
        os.rename(building, folder)
    dist.barrier()


def _write_adapter(engine: Any, base: BaseCheckpoint, folder: Path | None) -> None:
    """Gather the adapter on every rank and write it from the one that has a folder."""
    import deepspeed
    from safetensors.torch import load_file

    # Gathering needs every rank; under ZeRO-3 each holds a part of every tensor.
    trainable = [p for p in engine.module.parameters() if p.requires_grad]
    partitioned = any(hasattr(parameter, "ds_id") for parameter in trainable)
    with deepspeed.zero.GatheredParameters(trainable, modifier_rank=None, enabled=partitioned):
        if folder is None:
            return
        engine.module.model.save_pretrained(folder, safe_serialization=True)

    # Name the base by its source: on another machine the model has the same name, but another cache folder.
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    if base.remote is not None:
        settings_path = folder / "adapter_config.json"
        settings = json.loads(settings_path.read_text(encoding="utf-8"))
        settings |= {"base_model_name_or_path": base.remote.source, "revision": base.revision}
        settings_path.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")

    # ZeRO-3 leaves empty tensors where gathering failed.
    empty = [name for name, tensor in load_file(folder / WEIGHTS_NAME).items() if tensor.numel() == 0]
    if empty:
        raise RuntimeError(f"the adapter was saved with empty tensors: {empty[:3]}")


def _write_model(engine: Any, base: BaseCheckpoint, folder: Path | None) -> None:
    """Gather and write one tensor after the other: no rank ever holds the whole model."""
    import deepspeed

    # Gathering needs every rank; rank 0 writes.
    model = engine.module.model
    writer = ShardWriter(folder, "model") if folder is not None else None
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None, enabled=hasattr(parameter, "ds_id")):
            if writer is not None:
                writer.add(name, parameter)
    if writer is None or folder is None:
        return
    writer.close()

    # Add the index, the configuration and the base's tokenizer files.
    (folder / INDEX_NAME).write_text(json.dumps(writer.index(), indent=2), encoding="utf-8")
    model.config.save_pretrained(folder)
    for source in base.folder.iterdir():
        if source.suffix in (".json", ".jinja", ".model", ".txt") and not (folder / source.name).exists():
            shutil.copyfile(source, folder / source.name)
