"""Resolves ``model.source`` to a checked model folder, and loads its tokenizer and weights."""

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
    """A checked base model: its folder, the same on every node, and the digest of its content."""

    folder: Path
    digest: str
    dtype: str
    remote: RemoteModel | None = None
    """The source from which a node without the folder fetches it."""

    @property
    def name(self) -> str:
        """What people call it: the hub id, the address, or the name of the folder."""
        return self.remote.source if self.remote else self.folder.name

    @property
    def revision(self) -> str | None:
        """The commit of a hub model."""
        return self.remote.revision if self.remote else None


def resolve_model(config: ModelConfig, is_asked: bool = True) -> BaseCheckpoint:
    """Find the model that ``config`` names and check that it can be trained and can answer chats.

    If the model is not on disk, only its small files are fetched. The weights are fetched when they are loaded.

    Args:
        config: The model's source and dtype.
        is_asked: Whether it must answer chats. The scorer of the warmth meters only reads, and needs no chat template
            (GPT-2 has none).

    Raises:
        InputError: the model does not exist, has no weights or no chat template, or cannot be fetched.
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
    """Return the licence in the front matter of a base model's README, where the hub's model cards state it."""
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
    """Load the tokenizer, with padding on the left for batch generation.

    Raises:
        InputError: its files are missing on this node and cannot be fetched.
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
    """Load the weights in the configured dtype, in evaluation mode, and fetch them first if they are missing.

    They are loaded directly to ``device``. Without a device they stay on the CPU, unless DeepSpeed's ZeRO-3 is active
    and places them.

    Raises:
        InputError: the weights are missing on this node and cannot be fetched.
        InterruptedRunError: the disk is full.
    """
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import is_flash_attn_2_available

    if base.remote:
        fetch(base.folder, base.remote, with_weights=True)

    # Flash attention supports 16-bit numbers on GPUs only. The test is not on ``device``: without one, ZeRO-3 moves the
    # weights to the GPU later.
    is_flash = best_device().type == "cuda" and base.dtype == "bfloat16" and is_flash_attn_2_available()
    placed = {} if device is None else {"device_map": {"": device}}
    model = AutoModelForCausalLM.from_pretrained(
        base.folder,
        dtype=getattr(torch, base.dtype),
        attn_implementation="flash_attention_2" if is_flash else "sdpa",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **placed,
    )
    return model.eval()


def best_device() -> torch.device:
    """Return the GPU assigned to this process, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
