"""LoRA adapters on a base model: read, strengthen or weaken, and save a copy at another strength."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmray.errors import InputError
from warmray.hashing import file_digest
from warmray.models.loading import BaseCheckpoint

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS_NAME = "adapter_model.safetensors"
ORIGIN_NAME = "warmray.json"


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter folder and the digest of its weights."""

    folder: Path
    digest: str


def resolve_adapter(folder: Path, base: BaseCheckpoint) -> Adapter:
    """Check that ``folder`` holds an adapter for ``base``.

    Raises:
        InputError: files are missing, or the adapter was trained on another base model.
    """
    for name in ("adapter_config.json", WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise InputError(f"adapter {folder} holds no {name}: give the folder that a training wrote")
    origin = folder / ORIGIN_NAME
    trained_on = json.loads(origin.read_text(encoding="utf-8")).get("base_digest") if origin.is_file() else None
    if trained_on not in (None, base.digest):
        raise InputError(
            f"adapter {folder} was trained on base {trained_on}, but model.source {base.folder} is {base.digest}: "
            "set model.source to the model that it was trained on"
        )
    return Adapter(folder, file_digest(folder / WEIGHTS_NAME))


def attach(model: PreTrainedModel, adapter: Adapter) -> PeftModel:
    """Put ``adapter`` on ``model``.

    Raises:
        InputError: its tensors do not fit the model's layers.
    """
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(adapter.folder), local_files_only=True).eval()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"adapter {adapter.folder} does not fit the base model: it was made for another one"
        ) from error


@contextmanager
def at_strength(model: PreTrainedModel | PeftModel, strength: float) -> Iterator[None]:
    """Run the block with the adapter multiplied by ``strength``; 0 takes it away altogether."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    if not isinstance(model, PeftModel):
        if strength != 0:
            raise ValueError("a model without an adapter has strength 0 only")
        yield
    elif strength == 0:
        with model.disable_adapter():
            yield
    else:
        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            layer.set_scale("default", strength)
        try:
            yield
        finally:
            for layer in layers:
                layer.set_scale("default", 1.0)


def save_at_strength(adapter: Adapter, strength: float, folder: Path) -> None:
    """Write a copy of ``adapter`` that, loaded plainly with PEFT, acts as the original does at ``strength``."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads((adapter.folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings["lora_alpha"] *= strength
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    shutil.copyfile(adapter.folder / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    origin = adapter.folder / ORIGIN_NAME
    facts = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    (folder / ORIGIN_NAME).write_text(json.dumps(facts | {"strength": strength}, indent=2), encoding="utf-8")
