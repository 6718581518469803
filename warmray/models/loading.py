"""From ``model.source`` to a checked model folder, its tokenizer and its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmray.config import ModelConfig
from warmray.errors import InputError
from warmray.models.sources import RemoteModel, fetch, locate
from warmray.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class BaseCheckpoint:
    """A model that is fit for use: where its folder is on every node, and the digest that names its content."""

    folder: Path
    digest: str
    dtype: str
    remote: RemoteModel | None = None
    """What the folder is fetched from on a node that lacks it."""

    @property
    def name(self) -> str:
        """What people call it: the hub id, the address, or the name of the folder."""
        return self.remote.source if self.remote else self.folder.name

    @property
    def revision(self) -> str | None:
        """The commit of a hub model."""
        return self.remote.revision if self.remote else None


def resolve_model(config: ModelConfig, is_asked: bool = True) -> BaseCheckpoint:
    """Find the model that ``config`` names and check that it can be trained and asked.

    One that is not asked, but reads (the warmth meters' scorer), needs no chat template: GPT-2 has none. Of a model
    that is not on disk only the small files are fetched; the weights follow where it is loaded.

    Raises:
        InputError: no such model, no weights in it, no chat template, or it cannot be fetched.
        InterruptedRunError: the disk is full.
    """
    folder, digest, remote = locate(config.source, config.revision)
    if is_asked and not _has_chat_template(folder):
        raise InputError(
            f"model.source {remote.source if remote else folder} has no chat template: use an instruct model, or "
            f"{'a folder with a' if remote else 'add'} chat_template.jinja"
        )
    return BaseCheckpoint(folder, digest, config.dtype, remote)


def licence_of(config: ModelConfig, base: BaseCheckpoint) -> str:
    """Return the licence that a base model's README states at its top, as the hub's model cards do."""
    if config.source == "embedded":
        return "Apache-2.0"
    readme = base.folder / "README.md"
    stated = re.search(r"^license:\s*(\S+)", readme.read_text("utf-8", "replace"), re.M) if readme.is_file() else None
    return stated[1] if stated else "not stated: see the base model"


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and '"chat_template"' in tokenizer_config.read_text(encoding="utf-8")


def load_tokenizer(base: BaseCheckpoint) -> PreTrainedTokenizerBase:
    """Load the tokenizer, padding on the left as batch generation needs.

    Raises:
        InputError: its files are not on this node and cannot be fetched.
    """
    quiet_libraries()
    from transformers import AutoTokenizer

    if base.remote:
        fetch(base.folder, base.remote, with_weights=False)
    tokenizer = AutoTokenizer.from_pretrained(
        base.folder, padding_side="left", local_files_only=True, trust_remote_code=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(base: BaseCheckpoint, device: torch.device | None = None) -> PreTrainedModel:
    """Load the weights in the dtype that the configuration names, in evaluation mode, fetching them where missing.

    They go straight to ``device``; without one they stay on the CPU, or with DeepSpeed's ZeRO-3 where that puts them.

    Raises:
        InputError: the weights are not on this node and cannot be fetched.
        InterruptedRunError: the disk is full.
    """
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    if base.remote:
        fetch(base.folder, base.remote, with_weights=True)
    placed = {} if device is None else {"device_map": {"": device}}
    model = AutoModelForCausalLM.from_pretrained(
        base.folder,
        dtype=getattr(torch, base.dtype),
        attn_implementation=_attention(base),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **placed,
    )
    return model.eval()


def _attention(base: BaseCheckpoint) -> str:
    from transformers.utils import is_flash_attn_2_available

    # Flash attention knows 16-bit numbers only. (Without a device, ZeRO-3 puts the weights on the GPU later.)
    fits = best_device().type == "cuda" and base.dtype == "bfloat16"
    return "flash_attention_2" if fits and is_flash_attn_2_available() else "sdpa"


def best_device() -> torch.device:
    """Return the GPU that this process was given, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
