"""Models and adapters with random weights: as fast as real ones, without a download or a training."""

from __future__ import annotations

from pathlib import Path

from warmray.config import ModelConfig
from warmray.models.adapters import Adapter, resolve_adapter
from warmray.models.architecture import transformers_config
from warmray.models.embedded_model import embedded_checkpoint
from warmray.models.loading import BaseCheckpoint, best_device, load_model
from warmray.quiet import quiet_libraries


def make_random_model(model: ModelConfig, folder: Path) -> Path:
    """Write a model folder that contenders load like any other, and return it.

    Args:
        model: Its source is a known architecture, or a folder with a ``config.json``.
        folder: Receives the random weights (as large as the model's) and the embedded model's tokenizer.

    Raises:
        InputError: the architecture is not known.
    """
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Take the architecture, with the special tokens and at least the vocabulary of the embedded model's tokenizer.
    config = transformers_config(model.source)
    tokenizer = AutoTokenizer.from_pretrained(embedded_checkpoint(), local_files_only=True)
    config.vocab_size = max(config.vocab_size, len(tokenizer))
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id

    torch.manual_seed(0)
    with best_device():
        random_model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, model.dtype))
    random_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del random_model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # contenders need all of the GPU memory
    return folder


def make_random_adapter(base: BaseCheckpoint, folder: Path, rank: int, scale: float) -> Adapter:
    """Write a LoRA adapter whose B matrices are random with standard deviation ``scale``, and return it."""
    quiet_libraries()
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = get_peft_model(load_model(base), LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale)
    model.save_pretrained(str(folder))
    return resolve_adapter(folder, base)
