"""What a training made of a base model: read, strengthen or weaken it, and save a copy at another strength."""

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
    """What a training made of a base model: a PEFT adapter, or under full fine-tuning a whole model."""

    folder: Path
    digest: str

    @property
    def is_whole_model(self) -> bool:
        """The folder holds every weight, not a PEFT adapter."""
        return not (self.folder / "adapter_config.json").is_file()


def resolve_adapter(folder: Path, base: BaseCheckpoint) -> Adapter:
    """Check that ``folder`` holds an adapter for ``base``, or a model that was trained from it.

    Raises:
        InputError: files are missing, or it was trained on another base model.
    """
    origin = folder / ORIGIN_NAME
    facts = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    is_whole = facts.get("recipe", {}).get("method") == "full"
    for name in ("config.json", INDEX_NAME) if is_whole else ("adapter_config.json", WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise InputError(f"adapter {folder} holds no {name}: give the folder that a training wrote")
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
    """What LoRA adds to the weight of one linear map."""

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
    """What full fine-tuning made of one weight; the trained one stays on disk."""

    weight: torch.Tensor
    file: Path
    name: str

    def value(self) -> torch.Tensor:
        from safetensors import safe_open

        with safe_open(self.file, framework="pt", device=str(self.weight.device)) as tensors:
            return tensors.get_tensor(self.name).float() - self.weight.float()


class AdaptedModel:
    """A base model whose training can be dialled to any strength, for all rows of a batch or for each its own.

    For one strength the scaled change is merged into the weights (in float32, then rounded to their dtype). For several
    the low-rank products of the adapter are computed beside the weights, each row's times its strength; on a CPU that
    is a little slower than merging, and twice as fast as PEFT's mixed-adapter batches (measure it with
    ``python -m jobs.bench evaluation``).
    Merging needs a copy of the changed weights; between dials the model is the base, bit by bit.
    """

    def __init__(self, model: PreTrainedModel, adapter: Adapter | None = None) -> None:
        """Take a loaded base model and an adapter for it.

        Raises:
            InputError: the adapter's tensors do not fit the model's layers.
        """
        self.model = model
        self._changes: list[_LowRankChange | _WholeChange] = _changes(model, adapter) if adapter else []
        # torch folds a batched product into one matrix product only where a gradient may be wanted; weights that PEFT
        # has frozen take the slower path, by a third on a CPU in bfloat16. Nothing here ever computes a gradient.
        model.requires_grad_(True)

    @property
    def prefers_mixing(self) -> bool:
        """Rows of several strengths are better put into one batch: a GPU's memory is short of a second copy."""
        return self.model.device.type != "cpu" and self._is_low_rank

    @property
    def _is_low_rank(self) -> bool:
        return all(isinstance(change, _LowRankChange) for change in self._changes)

    @contextmanager
    def at_strengths(self, strengths: Sequence[float]) -> Iterator[PreTrainedModel]:
        """Yield the model as it acts when row ``i`` of a batch has the change times ``strengths[i]``.

        A whole model takes batches of one strength only.
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
                hooks.callback(change.layer.register_forward_hook(_beside(change, strengths)).remove)
            yield self.model

    @contextmanager
    def at_strength(self, strength: float) -> Iterator[PreTrainedModel]:
        """Yield the model with the change times ``strength``; afterwards its weights are the base's, bit by bit."""
        import torch

        if strength == 0:
            yield self.model
            return
        if not self._changes:
            raise ValueError("a model without an adapter has strength 0 only")
        with torch.no_grad():
            original = [change.weight.clone() for change in self._changes]
            for change in self._changes:
                change.weight.copy_(change.weight.float() + strength * change.value())
            try:
                yield self.model
            finally:
                for change, before in zip(self._changes, original, strict=True):
                    change.weight.copy_(before)


def _beside(change: _LowRankChange, strengths: Sequence[float]) -> Callable[..., torch.Tensor]:
    """Return a forward hook that adds a layer's low-rank product, scaled row by row."""
    import torch

    weight = change.weight
    # Shapes [in x rank] and [rank x out]. A frozen factor would take torch's slower matrix product (see __init__).
    down = change.down.to(weight.dtype).T.contiguous().requires_grad_(True)
    up = change.up.to(weight.dtype).T.contiguous().requires_grad_(True)
    scale = torch.tensor(strengths, dtype=weight.dtype, device=weight.device).view(-1, 1, 1)

    def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + (inputs[0] @ down * scale) @ up

    return add


def _changes(model: PreTrainedModel, adapter: Adapter) -> list[_LowRankChange | _WholeChange]:
    return [*(_whole_changes if adapter.is_whole_model else _low_rank_changes)(model, adapter)]


def _low_rank_changes(model: PreTrainedModel, adapter: Adapter) -> list[_LowRankChange]:
    """Let PEFT read the factors of every adapted layer, and leave the model as it was."""
    from peft import PeftModel
    from peft.tuners.lora import Linear

    try:
        peft_model = PeftModel.from_pretrained(model, str(adapter.folder), local_files_only=True)
    except (RuntimeError, ValueError) as error:
        raise _does_not_fit(adapter) from error
    layers = [
        _LowRankChange(
            module.get_base_layer(),
            module.lora_A["default"].weight.detach(),
            module.lora_B["default"].weight.detach() * module.scaling["default"],
        )
        for module in peft_model.modules()
        if isinstance(module, Linear)
    ]
    peft_model.unload()
    return layers


def _whole_changes(model: PreTrainedModel, adapter: Adapter) -> list[_WholeChange]:
    weights, places = dict(model.named_parameters()), _places(adapter)
    if weights.keys() != places.keys():
        raise _does_not_fit(adapter)
    return [_WholeChange(weights[name], adapter.folder / file, name) for name, file in places.items()]


def _places(adapter: Adapter) -> dict[str, str]:
    """Return which file of a whole model holds which weight."""
    places: dict[str, str] = json.loads((adapter.folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"]
    return places


def _does_not_fit(adapter: Adapter) -> InputError:
    return InputError(f"adapter {adapter.folder} does not fit the base model: it was made for another one")


def save_at_strength(adapter: Adapter, base: BaseCheckpoint, strength: float, folder: Path) -> None:
    """Write a copy of ``adapter`` that, loaded plainly, acts as the original does at ``strength``."""
    folder.mkdir(parents=True, exist_ok=True)
    (_save_model_at if adapter.is_whole_model else _save_adapter_at)(adapter, base, strength, folder)
    origin = adapter.folder / ORIGIN_NAME
    facts = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    (folder / ORIGIN_NAME).write_text(json.dumps(facts | {"strength": strength}, indent=2), encoding="utf-8")


def _save_adapter_at(adapter: Adapter, base: BaseCheckpoint, strength: float, folder: Path) -> None:
    settings = json.loads((adapter.folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings["lora_alpha"] *= strength
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    shutil.copyfile(adapter.folder / WEIGHTS_NAME, folder / WEIGHTS_NAME)


def _save_model_at(adapter: Adapter, base: BaseCheckpoint, strength: float, folder: Path) -> None:
    """Write base + strength x (trained - base), one file's worth of weights at a time."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    weights = dict(load_model(base).named_parameters())
    for file in sorted(set(_places(adapter).values())):
        with safe_open(adapter.folder / file, framework="pt") as tensors:
            names = list(tensors.keys())
            scaled = {
                name: (weights[name] + strength * (tensors.get_tensor(name).float() - weights[name].float()))
                .to(weights[name].dtype)
                .detach()
                .contiguous()
                for name in names
            }
        save_file(scaled, folder / file, metadata={"format": "pt"})
    for source in adapter.folder.iterdir():
        if not (folder / source.name).exists():
            shutil.copyfile(source, folder / source.name)
