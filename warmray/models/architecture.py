"""The shape of a model without its weights: built on torch's meta device, nothing downloaded, no memory taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from warmray.config import ModelConfig
from warmray.errors import InputError, nearest
from warmray.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

ALL_LINEAR = "all-linear"
"""Value of ``train.target_modules`` for every linear map but the output head, as in PEFT."""
DECODER_LINEARS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
"""Linear maps of a gated-MLP decoder layer (Llama, Mistral, Qwen2), the kind whose memory is reckoned here."""


@dataclass(frozen=True)
class LinearShape:
    """A linear map: values in and values out per token."""

    name: str
    """The last part of the module's name, as ``train.target_modules`` gives it."""
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Architecture:
    """What memory and time depend on; sizes are in values, not in bytes."""

    name: str
    parameters: int
    """Exact count; embeddings shared with the output are counted once."""
    largest_tensor: int
    """Parameters of the largest single tensor, which ZeRO-3 gathers whole."""
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    vocabulary_size: int
    linears: tuple[LinearShape, ...]
    """Every linear map of the decoder layers: what PEFT adapts under ``all-linear``."""

    @property
    def query_size(self) -> int:
        """Values of all query heads per token."""
        return self.num_heads * self.head_size

    def adapted(self, target_modules: str | list[str]) -> tuple[LinearShape, ...]:
        """Return the linear maps that get an adapter; ``target_modules`` is that of the configuration."""
        return tuple(linear for linear in self.linears if target_modules == ALL_LINEAR or linear.name in target_modules)

    def adapter_parameters(self, rank: int, target_modules: str | list[str] = ALL_LINEAR) -> int:
        """Return the exact number of LoRA parameters: A is [rank x inputs] and B [outputs x rank] (Hu et al. 2021)."""
        return sum(rank * (linear.inputs + linear.outputs) for linear in self.adapted(target_modules))


def known_sources() -> list[str]:
    """Return the values of ``model.source`` whose architecture ships with warmray."""
    return list(_known_settings())


def load_architecture(model: ModelConfig) -> Architecture:
    """Return the architecture that ``model.source`` names: one of the known, or a folder with a ``config.json``.

    Raises:
        InputError: the source is neither, or its architecture is not a gated-MLP decoder.
    """
    quiet_libraries()
    return read_shape(model.source, meta_model(transformers_config(model.source)))


@lru_cache(maxsize=1)
def _known_settings() -> dict[str, dict[str, Any]]:
    path = resources.files("warmray") / "models" / "data" / "architectures.yaml"
    settings: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return settings


def transformers_config(source: str) -> PreTrainedConfig:
    """Return the transformers configuration of a known model, or of a folder with a ``config.json``.

    Raises:
        InputError: the source is neither.
    """
    from transformers import AutoConfig

    if source in _known_settings():
        settings = dict(_known_settings()[source])
        return AutoConfig.for_model(settings.pop("model_type"), **settings)
    folder = Path(source).expanduser()
    if not folder.is_absolute() or not (folder / "config.json").is_file():
        raise InputError(
            f"the architecture of model.source {source!r} is not known: give the absolute path of a folder with its "
            f"config.json, or one of {', '.join(known_sources())}"
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} is no model configuration: {str(error).splitlines()[0]}") from error


def meta_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the causal language model of ``config`` on the meta device: shapes in bfloat16, and no values.

    Raises:
        InputError: transformers has no causal language model of this kind.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    except ValueError as error:
        raise InputError(f"a {config.model_type} model is no causal language model: name one that is") from error


def linear_names(model: PreTrainedModel) -> list[str]:
    """Return the last parts of the names of all linear maps that can take an adapter, in the order of the model.

    The model may be on any device and of any kind: ``linear_names(meta_model(transformers_config(folder)))``.
    """
    return list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in _linears(model)))


def check_target_modules(target_modules: str | list[str], existing: list[str]) -> None:
    """Check ``train.target_modules`` against the ``existing`` names, such as those of :func:`linear_names`.

    Raises:
        InputError: a name is not among them; PEFT itself would pass over it if another one is.
    """
    known = list(dict.fromkeys(existing))
    for name in [] if target_modules == ALL_LINEAR else target_modules:
        if name not in known:
            raise InputError(
                f"train.target_modules: no linear map that can take an adapter is called {name!r}"
                f"{nearest(name, known)} (there are: {', '.join(known)})"
            )


def _linears(model: PreTrainedModel) -> dict[str, Any]:
    """Return what PEFT adapts under ``all-linear``, by path: every linear map but the output head."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return {path: m for path, m in model.named_modules() if isinstance(m, Linear | Conv1D) and m is not head}


def read_shape(name: str, model: PreTrainedModel) -> Architecture:
    """Read the shape of a model, built on any device, before it is adapted.

    Raises:
        InputError: the layers are not those of a gated-MLP decoder.
    """
    linears = _linears(model)
    if set(linear_names(model)) != DECODER_LINEARS:
        raise InputError(
            f"model.source {name} is a {type(model).__name__}, and memory is reckoned for gated-MLP decoders only "
            f"(such as Llama, Mistral and Qwen2, with {', '.join(sorted(DECODER_LINEARS))} in every layer)"
        )
    config = model.config
    return Architecture(
        name=name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        largest_tensor=max(parameter.numel() for parameter in model.parameters()),
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        mlp_size=config.intermediate_size,
        vocabulary_size=config.vocab_size,
        linears=tuple(
            LinearShape(path.rsplit(".", 1)[-1], m.in_features, m.out_features) for path, m in linears.items()
        ),
    )
