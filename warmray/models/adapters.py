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
    import torch
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


class AdaptedModel:
    """A base model whose adapter can be dialled to any strength.

    The scaled adapter is merged into the weights (in float32, then rounded to their dtype): PEFT's own layers take a
    third of the generation speed on a CPU even while they are switched off. Between dials the model is the base.
    """

    def __init__(self, model: PreTrainedModel, adapter: Adapter | None = None) -> None:
        """Take a loaded base model and an adapter for it.

        Raises:
            InputError: the adapter's tensors do not fit the model's layers.
        """
        self.model = model
        self._layers = _low_rank_factors(model, adapter) if adapter else []
        # torch folds a batched product into one matrix product only where a gradient may be wanted; weights that PEFT
        # has frozen take the slower path, by a third on a CPU in bfloat16. Nothing here ever computes a gradient.
        model.requires_grad_(True)

    @contextmanager
    def at_strength(self, strength: float) -> Iterator[PreTrainedModel]:
        """Yield the model with the adapter times ``strength``; afterwards its weights are the base's, bit by bit."""
        import torch

        if strength == 0:
            yield self.model
            return
        if not self._layers:
            raise ValueError("a model without an adapter has strength 0 only")
        with torch.no_grad():
            original = [weight.clone() for weight, _, _ in self._layers]
            for weight, down, up in self._layers:
                weight.copy_(weight.float() + strength * (up.float() @ down.float()))
            try:
                yield self.model
            finally:
                for (weight, _, _), before in zip(self._layers, original, strict=True):
                    weight.copy_(before)


def _low_rank_factors(
    model: PreTrainedModel, adapter: Adapter
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return (weight, A, scaled B) of every adapted layer, read by PEFT, and leave the model as it was."""
    from peft import PeftModel
    from peft.tuners.lora import Linear

    try:
        peft_model = PeftModel.from_pretrained(model, str(adapter.folder), local_files_only=True)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"adapter {adapter.folder} does not fit the base model: it was made for another one"
        ) from error
    layers = [
        (
            module.get_base_layer().weight,
            module.lora_A["default"].weight.detach(),
            module.lora_B["default"].weight.detach() * module.scaling["default"],
        )
        for module in peft_model.modules()
        if isinstance(module, Linear)
    ]
    peft_model.unload()
    return layers


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
