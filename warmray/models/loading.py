"""From ``model.source`` to a checked model folder, its tokenizer and its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from warmray.config import ModelConfig
from warmray.errors import InputError
from warmray.hashing import SHORT, digest, file_digest
from warmray.models.embedded import embedded_checkpoint
from warmray.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLED_BYTES = 1 << 20
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class BaseCheckpoint:
    """A model folder that is fit for use, and the digest that names its content."""

    folder: Path
    digest: str
    dtype: str


def resolve_model(config: ModelConfig) -> BaseCheckpoint:
    """Find the model that ``config`` names and check that it can be trained and asked.

    Raises:
        InputError: no such folder, no weights in it, or a tokenizer without a chat template.
    """
    if HUB_ID.fullmatch(config.source):
        raise InputError(
            f"model.source {config.source!r} reads as a hub id, but weights must be on disk for now: download it "
            "and give the absolute path of its folder"
        )
    folder = embedded_checkpoint() if config.source == "embedded" else Path(config.source).expanduser()
    if not folder.is_absolute():
        raise InputError(f"model.source is the relative path {config.source!r}: give an absolute one, or `embedded`")
    if not (folder / "config.json").is_file():
        raise InputError(f"model.source {folder} holds no config.json: give a Hugging Face model folder, or `embedded`")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(f"model.source {folder} holds no weights: it needs *.safetensors files")
    if not _has_chat_template(folder):
        raise InputError(
            f"model.source {folder} has no chat template: use an instruct model, or add chat_template.jinja"
        )
    return BaseCheckpoint(folder, _model_digest(folder, tuple(weights)), config.dtype)


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and '"chat_template"' in tokenizer_config.read_text(encoding="utf-8")


@lru_cache(maxsize=8)
def _model_digest(folder: Path, weights: tuple[Path, ...]) -> str:
    # Weights of a 70B model are 140 GB: size, head and tail of each file identify it without reading it all.
    facts: list[object] = [file_digest(folder / "config.json")]
    for path in weights:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(SAMPLED_BYTES)
            stream.seek(max(0, size - SAMPLED_BYTES))
            facts.append([path.name, size, digest(head.hex()), digest(stream.read().hex())])
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    facts += [file_digest(folder / name) for name in tokenizer_files if (folder / name).is_file()]
    return digest(facts)[:SHORT]


def load_tokenizer(base: BaseCheckpoint) -> PreTrainedTokenizerBase:
    """Load the tokenizer, padding on the left as batch generation needs."""
    quiet_libraries()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder, padding_side="left", local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(base: BaseCheckpoint) -> PreTrainedModel:
    """Load the weights on the CPU in the dtype that the configuration names, in evaluation mode."""
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=getattr(torch, base.dtype), local_files_only=True)
    return model.eval()


def best_device() -> torch.device:
    """Return the GPU that this process was given, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
