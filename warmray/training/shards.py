"""Tensors written to safetensors files one after the other: at most one file's worth is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from warmray.storage.hashing import file_digest

SHARD_BYTES = 1 << 30
"""A file is written when its tensors reach this size."""


class ShardWriter:
    """Collects tensors and writes ``<name>-<number>.safetensors`` whenever they reach ``SHARD_BYTES``."""

    def __init__(self, folder: Path, name: str) -> None:
        """Take an existing folder and the prefix of every file name."""
        self._folder, self._name = folder, name
        self._pending: dict[str, torch.Tensor] = {}
        self._files: dict[str, str] = {}
        self._places: dict[str, str] = {}
        self._bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Copy a tensor to the CPU and write it with the next file."""
        self._pending[name] = tensor.detach().to("cpu", copy=True).contiguous()
        if sum(kept.nbytes for kept in self._pending.values()) >= SHARD_BYTES:
            self._write()

    def close(self) -> dict[str, str]:
        """Write the remaining tensors and return the digest of every file by its name."""
        self._write()
        return self._files

    def index(self) -> dict[str, Any]:
        """Return which file holds which tensor, in the format of a Hugging Face model's index."""
        return {"metadata": {"total_size": self._bytes}, "weight_map": self._places}

    def _write(self) -> None:
        """Write the collected tensors to the next file and record its digest."""
        from safetensors.torch import save_file

        if not self._pending:
            return
        path = self._folder / f"{self._name}-{len(self._files)}.safetensors"
        save_file(self._pending, path, metadata={"format": "pt"})
        self._files[path.name] = file_digest(path)
        self._places |= dict.fromkeys(self._pending, path.name)
        self._bytes += sum(tensor.nbytes for tensor in self._pending.values())
        self._pending = {}
