"""The shape of a model without its weights: built on torch's meta device, with no download and no memory."""

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
"""Value of ``train.target_modules`` for every linear layer except the output head, as in PEFT."""
DECODER_LINEARS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
"""Linear layers of a gated-MLP decoder (Llama, Mistral, Qwen2), the only kind whose memory is estimated."""


@dataclass(frozen=True)
class LinearShape:
    """A linear layer: number of values per token at its input and at its output."""

    name: str
    """The last part of the module's name, as in ``train.target_modules``."""
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Architecture:
    """The facts that determine memory and time. Sizes are numbers of values, not bytes."""

    name: str
    parameters: int
    """Exact number. Embeddings shared with the output head count once."""
    largest_tensor: int
    """Number of parameters in the largest tensor, which ZeRO-3 gathers whole."""
    hidden_size: int
    num_layers: int
    num_heads: int
    head_size: int
    mlp_size: int
    vocabulary_size: int
    linears: tuple[LinearShape, ...]
    """Every linear layer of the decoder: the modules that PEFT adapts with ``all-linear``."""

    @property
    def query_size(self) -> int:
        """Number of values per token in all query heads together."""
        return self.num_heads * self.head_size

    def adapted(self, target_modules: str | list[str]) -> tuple[LinearShape, ...]:
        """Return the linear layers that get an adapter, given ``train.target_modules``."""
        return tuple(linear for linear in self.linears if target_modules == ALL_LINEAR or linear.name in target_modules)

    def adapter_parameters(self, rank: int, target_modules: str | list[str] = ALL_LINEAR) -> int:
        """Return the exact number of LoRA parameters: A is [rank x inputs], B is [outputs x rank] (Hu et al. 2021)."""
        return sum(rank * (linear.inputs + linear.outputs) for linear in self.adapted(target_modules))


def known_sources() -> list[str]:
    """Return the values of ``model.source`` whose architecture is packaged with warmray."""
    return list(_known_settings())


def load_architecture(model: ModelConfig) -> Architecture:
    """Return the architecture of ``model.source``: a known model, or a folder with a ``config.json``.

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

    # A known model: its configuration is packaged.
    if source in _known_settings():
        settings = dict(_known_settings()[source])
        return AutoConfig.for_model(settings.pop("model_type"), **settings)

    # A folder: only its config.json is read, and code in it is never run.
    folder = Path(source).expanduser()
    if not folder.is_absolute() or not (folder / "config.json").is_file():
        raise InputError(
            f"the architecture of model.source {source!r} is not known: give the absolute path of a folder with a "
            f"config.json, or one of {', '.join(known_sources())}"
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder / 'config.json'} is not a valid model configuration: {reason}") from error


def meta_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the causal language model of ``config`` on the meta device: bfloat16 shapes without values.

    Raises:
        InputError: transformers has no causal language model of this type.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    except ValueError as error:
        raise InputError(
            f"a {config.model_type} model is not a causal language model: set model.source to one that is"
        ) from error


def linear_names(model: PreTrainedModel) -> list[str]:
    """Return the distinct last name parts of all linear layers that can take an adapter, in model order.

    The model can be of any type and on any device: ``linear_names(meta_model(transformers_config(folder)))``.
    """
    return list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in _linears(model)))


def check_target_modules(target_modules: str | list[str], existing: list[str]) -> None:
    """Check ``train.target_modules`` against the ``existing`` names, such as those of :func:`linear_names`.

    Raises:
        InputError: a name does not exist. PEFT ignores such a name as long as another one exists.
    """
    known = list(dict.fromkeys(existing))
    for name in [] if target_modules == ALL_LINEAR else target_modules:
        if name not in known:
            raise InputError(
                f"train.target_modules: no linear layer that can take an adapter is called {name!r}"
                f"{nearest(name, known)} (there are: {', '.join(known)})"
            )


def _linears(model: PreTrainedModel) -> dict[str, Any]:
    """Return by path the modules that PEFT adapts with ``all-linear``: every linear layer except the output head."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return {path: m for path, m in model.named_modules() if isinstance(m, Linear | Conv1D) and m is not head}


def read_shape(name: str, model: PreTrainedModel) -> Architecture:
    """Read the shape of a model on any device, before an adapter is added to it.

    Raises:
        InputError: the layers are not those of a gated-MLP decoder.
    """
    linears = _linears(model)
    if set(linear_names(model)) != DECODER_LINEARS:
        raise InputError(
            f"model.source {name} is a {type(model).__name__}, but memory can be estimated only for gated-MLP decoders "
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
        head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        mlp_size=config.intermediate_size,
        vocabulary_size=config.vocab_size,
        linears=tuple(
            LinearShape(path.rsplit(".", 1)[-1], m.in_features, m.out_features) for path, m in linears.items()
        ),
    )
