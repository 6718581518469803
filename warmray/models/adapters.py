"""The result of a training, as an adapter on its base model: load it, scale it, and save a copy at another strength."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmray.errors import InputError
from warmray.models.loading import BaseCheckpoint, load_model
from warmray.storage.hashing import digest, file_digest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WEIGHTS_NAME = "adapter_model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
ORIGIN_NAME = "warmray.json"


@dataclass(frozen=True)
class Adapter:
    """The result of a training: a PEFT adapter, or a whole model after full fine-tuning."""

    folder: Path
    digest: str

    @property
    def is_whole_model(self) -> bool:
        """Whether the folder holds every weight instead of a PEFT adapter."""
        return not (self.folder / "adapter_config.json").is_file()


def resolve_adapter(folder: Path, base: BaseCheckpoint) -> Adapter:
    """Check that ``folder`` holds an adapter for ``base``, or a model that was trained from it.

    Raises:
        InputError: files are missing, or it was trained on another base model.
    """
    origin = folder / ORIGIN_NAME
    facts = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}

    # All files must exist.
    is_whole = facts.get("recipe", {}).get("method") == "full"
    for name in ("config.json", INDEX_NAME) if is_whole else ("adapter_config.json", WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise InputError(f"adapter folder {folder} holds no {name}: give a folder that a training wrote")

    # The base model must be the one of the training. PEFT adapters of other origin do not name theirs.
    if facts.get("base_digest") not in (None, base.digest):
        raise InputError(
            f"adapter {folder} was trained on base {facts['base_digest']}, but model.source {base.folder} is "
            f"{base.digest}: set model.source to the model that it was trained on"
        )

    files = sorted(folder.glob("model-*.safetensors")) if is_whole else [folder / WEIGHTS_NAME]
    digests = [file_digest(path) for path in files]
    return Adapter(folder, digests[0] if len(digests) == 1 else digest(digests))


@dataclass(frozen=True)
class _LowRankChange:
    """The term that LoRA adds to the weight of one linear layer."""

    layer: torch.nn.Module
    down: torch.Tensor
    up: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        return self.layer.get_parameter("weight")

    def value(self) -> torch.Tensor:
        return self.up.float() @ self.down.float()


@dataclass(frozen=True)
class _WholeChange:
    """The change of one weight by full fine-tuning; the trained weight stays on disk."""

    weight: torch.Tensor
    file: Path
    name: str

    def value(self) -> torch.Tensor:
        from safetensors import safe_open

        with safe_open(self.file, framework="pt", device=str(self.weight.device)) as tensors:
            return tensors.get_tensor(self.name).float() - self.weight.float()


class AdaptedModel:
    """A base model with an adapter of adjustable strength, one for a whole batch or one per row.

    With one strength, the scaled change is merged into the weights (in float32, then rounded to their dtype). With
    several, the low-rank products are computed beside the weights and scaled row by row. On a CPU this is a little
    slower than merging, and twice as fast as PEFT's mixed-adapter batches (measured by
    ``python -m jobs.bench evaluation``).
    Merging needs a copy of the changed weights. Outside of ``at_strength`` the weights are the base's, bit by bit.
    """

    def __init__(self, model: PreTrainedModel, adapter: Adapter | None = None) -> None:
        """Take a loaded base model and an adapter for it.

        Raises:
            InputError: the adapter's tensors do not fit the model's layers.
        """
        self.model = model
        self._changes: list[_LowRankChange | _WholeChange] = _read_changes(model, adapter) if adapter else []
        # torch computes a batched product as one matrix product only if a gradient may be needed. Weights that PEFT has
        # frozen use a path that is a third slower on a CPU in bfloat16. Nothing here ever computes a gradient.
        model.requires_grad_(True)

    @property
    def prefers_mixing(self) -> bool:
        """Whether batches should mix strengths: a GPU may have no memory for the copy that merging needs."""
        return self.model.device.type != "cpu" and self._is_low_rank

    @property
    def _is_low_rank(self) -> bool:
        return all(isinstance(change, _LowRankChange) for change in self._changes)

    @contextmanager
    def at_strengths(self, strengths: Sequence[float]) -> Iterator[PreTrainedModel]:
        """Yield the model with the change scaled by ``strengths[i]`` for row ``i`` of a batch.

        A whole model accepts only batches of one strength.
        """
        if len(set(strengths)) == 1 and not (self.prefers_mixing and strengths[0] != 0):
            with self.at_strength(strengths[0]) as model:
                yield model
            return
        if not self._changes or not self._is_low_rank:
            raise ValueError("only the strengths of a low-rank adapter can be mixed in a batch")
        with ExitStack() as hooks:
            for change in self._changes:
                assert isinstance(change, _LowRankChange)
                hooks.callback(change.layer.register_forward_hook(_row_scaling_hook(change, strengths)).remove)
            yield self.model

    @contextmanager
    def at_strength(self, strength: float) -> Iterator[PreTrainedModel]:
        """Yield the model with the change scaled by ``strength``, and afterwards restore the base's weights."""
        import torch

        if strength == 0:
            yield self.model
            return
        if not self._changes:
            raise ValueError("a model without an adapter has strength 0 only")
        with torch.no_grad():
            # A copy, because subtracting the change again would not restore the rounded weights exactly.
            original = [change.weight.clone() for change in self._changes]
            for change in self._changes:
                change.weight.copy_(change.weight.float() + strength * change.value())
            try:
                yield self.model
            finally:
                for change, before in zip(self._changes, original, strict=True):
                    change.weight.copy_(before)


def _row_scaling_hook(change: _LowRankChange, strengths: Sequence[float]) -> Callable[..., torch.Tensor]:
    """Return a forward hook that adds a layer's low-rank product, scaled row by row."""
    import torch

    weight = change.weight
    # Shapes [in x rank] and [rank x out]. Frozen factors would use torch's slower matrix product (see AdaptedModel).
    down = change.down.to(weight.dtype).T.contiguous().requires_grad_(True)
    up = change.up.to(weight.dtype).T.contiguous().requires_grad_(True)
    scale = torch.tensor(strengths, dtype=weight.dtype, device=weight.device).view(-1, 1, 1)

    def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + (inputs[0] @ down * scale) @ up

    return add


def _read_changes(model: PreTrainedModel, adapter: Adapter) -> list[_LowRankChange | _WholeChange]:
    """Return the change of every trained weight, and leave the model unchanged."""
    misfit = InputError(f"adapter {adapter.folder} does not fit the base model: it was made for another one")
    if adapter.is_whole_model:
        weights, files = dict(model.named_parameters()), _weight_files(adapter)
        if weights.keys() != files.keys():
            raise misfit
        return [_WholeChange(weights[name], adapter.folder / file, name) for name, file in files.items()]

    from peft import PeftModel
    from peft.tuners.lora import Linear

    # PEFT reads the factors. Its scaling (alpha / rank) becomes part of the second one.
    try:
        peft_model = PeftModel.from_pretrained(model, str(adapter.folder), local_files_only=True)
    except (RuntimeError, ValueError) as error:
        raise misfit from error
    changes: list[_LowRankChange | _WholeChange] = [
        _LowRankChange(
            module.get_base_layer(),
            module.lora_A["default"].weight.detach(),
            module.lora_B["default"].weight.detach() * module.scaling["default"],
        )
        for module in peft_model.modules()
        if isinstance(module, Linear)
    ]
    peft_model.unload()
    return changes


def _weight_files(adapter: Adapter) -> dict[str, str]:
    """Return the file name of every weight of a whole model."""
    files: dict[str, str] = json.loads((adapter.folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"]
    return files


def save_at_strength(adapter: Adapter, base: BaseCheckpoint, strength: float, folder: Path) -> None:
    """Write a copy of ``adapter`` that, loaded without a strength, acts as the original does at ``strength``."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if adapter.is_whole_model:
        # Every weight becomes base + strength x (trained - base). One file at a time: all may not fit in memory.
        weights = dict(load_model(base).named_parameters())
        for file in sorted(set(_weight_files(adapter).values())):
            with safe_open(adapter.folder / file, framework="pt") as tensors:
                scaled = {
                    name: (weights[name] + strength * (tensors.get_tensor(name).float() - weights[name].float()))
                    .to(weights[name].dtype)
                    .detach()
                    .contiguous()
                    for name in list(tensors.keys())
                }
            save_file(scaled, folder / file, metadata={"format": "pt"})
        for source in adapter.folder.iterdir():
            if not (folder / source.name).exists():
                shutil.copyfile(source, folder / source.name)
    else:
        # LoRA adds alpha / rank x B A: scaling alpha is enough.
        settings = json.loads((adapter.folder / "adapter_config.json").read_text(encoding="utf-8"))
        settings["lora_alpha"] *= strength
        (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
        shutil.copyfile(adapter.folder / WEIGHTS_NAME, folder / WEIGHTS_NAME)

    # The origin goes with the copy, which is still checked against its base model.
    origin = adapter.folder / ORIGIN_NAME
    facts = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    (folder / ORIGIN_NAME).write_text(json.dumps(facts | {"strength": strength}, indent=2), encoding="utf-8")
