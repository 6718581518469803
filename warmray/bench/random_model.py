"""A model of a known architecture with random weights: as fast as the real one, with nothing to download."""

from __future__ import annotations

from pathlib import Path

from warmray.config import ModelConfig
from warmray.models.architecture import transformers_config
from warmray.models.embedded import embedded_checkpoint
from warmray.models.loading import best_device
from warmray.quiet import quiet_libraries


def make_random_model(model: ModelConfig, folder: Path) -> Path:
    """Write a model folder that every contender loads like any other, and return it.

    Args:
        model: Its source is one of the known architectures, or a folder with a ``config.json``.
        folder: Receives weights as large as the model, and the embedded model's tokenizer.

    Raises:
        InputError: the architecture is not known.
    """
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = transformers_config(model.source)
    tokenizer = AutoTokenizer.from_pretrained(embedded_checkpoint(), local_files_only=True)
    config.vocab_size = max(config.vocab_size, len(tokenizer))  # every token needs an embedding
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    with best_device():
        random_model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, model.dtype))
    random_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del random_model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # contenders need all of it
    return folder
