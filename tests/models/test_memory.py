"""The plan's figures, compared with a miniature of each architecture that is run on a CPU in bfloat16."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from tests.peak_memory import PeakMemory
from warmray.config import TrainConfig
from warmray.models.architecture import Architecture, read_shape
from warmray.models.memory import (
    BF16_BYTES,
    LOGIT_BYTES,
    MASK_BYTES,
    MemorySetup,
    activations_bytes,
    layer_activation_bytes,
    memory_use,
    trained_parameters,
)

TOLERANCE = 0.15
MLP_SIZES = {"llama": 896, "mistral": 688, "qwen2": 1376}
"""For a hidden size of 256, in proportion to the 8B, 22B and 32B models."""
TRAIN = TrainConfig(row_length=256, max_length=256, lora_rank=8)
TOKENS = 256


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For these small tensors, several threads wait longer for each other than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Miniature:
    """Four layers with the proportions of a full-size model."""

    model: torch.nn.Module
    shape: Architecture

    @property
    def base(self) -> torch.nn.Module:
        """The model below the adapter, if it has one."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    def forward(self, masked: bool = False) -> torch.Tensor:
        """Return the summed hidden states of a full micro-batch; the input needs a gradient, as inside a model."""
        embeddings = torch.randn(1, 256, 256, dtype=torch.bfloat16, requires_grad=True)
        mask = torch.ones(1, 256, dtype=torch.long)
        mask[0, 228:] = 0 if masked else 1
        output = self.base.get_decoder()(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)
        return output.last_hidden_state.float().sum()


def _miniature(model_type: str, train: TrainConfig = TRAIN) -> Miniature:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        vocab_size=512,
        hidden_size=256,
        intermediate_size=MLP_SIZES[model_type],
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shape = read_shape(model_type, base)
    if train.method == "full":
        return Miniature(base.train(), shape)
    lora = LoraConfig(r=8, lora_dropout=train.lora_dropout, target_modules=train.target_modules, task_type="CAUSAL_LM")
    return Miniature(get_peft_model(base, lora, autocast_adapter_dtype=False).train(), shape)


def _saved_bytes(miniature: Miniature, masked: bool) -> int:
    """Return the bytes that autograd saves in one forward pass: each storage once, without weights."""
    weights = {p.untyped_storage().data_ptr() for p in miniature.model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        miniature.forward(masked)
    return sum(saved.values())


WAYS = {
    "lora": {},
    "thinned": {"lora_dropout": 0.1},
    "attention": {"target_modules": ["q_proj", "v_proj"]},
    "output": {"target_modules": ["o_proj"]},
    "mlp": {"target_modules": ["up_proj", "down_proj"]},
    "full": {"method": "full"},
}
"""Settings for each way to train the model."""


@pytest.mark.parametrize("model_type", MLP_SIZES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("masked", [False, True])
def test_autograd_saves_the_planned_bytes_per_layer(model_type, way, masked):
    train = TRAIN.model_copy(update=WAYS[way])
    miniature = _miniature(model_type, train)
    planned = TOKENS * 4 * layer_activation_bytes(miniature.shape, train)
    if train.lora_dropout:  # a CPU saves the mask in bfloat16, a GPU in one byte
        planned += TOKENS * sum(linear.inputs for linear in miniature.shape.linears) * (BF16_BYTES - MASK_BYTES)
    assert planned == pytest.approx(_saved_bytes(miniature, masked), rel=TOLERANCE)


@pytest.mark.parametrize("model_type", MLP_SIZES)
@pytest.mark.parametrize("way", ["lora", "attention", "full"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_of_a_forward_and_backward_pass_is_as_planned(model_type, way, checkpointing):
    train = TRAIN.model_copy(update=WAYS[way])
    miniature = _miniature(model_type, train)
    if checkpointing:
        miniature.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with PeakMemory(miniature.model.parameters()) as memory:
        for _ in range(2):  # the second pass adds to the gradients of the first
            miniature.forward(masked=True).backward()
    gradients = BF16_BYTES * sum(p.numel() for p in miniature.model.parameters() if p.grad is not None)
    planned = activations_bytes(miniature.shape, train, checkpointing) + gradients
    assert planned == pytest.approx(memory.peak_bytes, rel=TOLERANCE)


def test_the_peak_of_a_chunk_of_the_loss_is_as_planned():
    hidden = torch.randn(256, 64, dtype=torch.bfloat16, requires_grad=True)
    head, targets = torch.randn(4096, 64, dtype=torch.bfloat16), torch.zeros(256, dtype=torch.long)
    with PeakMemory([hidden, head]) as memory:
        logits = hidden @ head.T
        cross_entropy(logits.float(), targets, reduction="sum").backward()
    assert pytest.approx(memory.peak_bytes, rel=TOLERANCE) == LOGIT_BYTES * 256 * 4096


@pytest.mark.parametrize("way", ["lora", "attention", "full"])
def test_weight_adapter_and_optimizer_bytes_are_exact(way):
    train = TRAIN.model_copy(update=WAYS[way])
    miniature = _miniature("llama", train)
    trained = [p for p in miniature.model.parameters() if p.requires_grad]
    masters = [p.detach().float().requires_grad_() for p in trained]
    optimizer = torch.optim.AdamW(masters)
    for master in masters:
        master.grad = torch.zeros_like(master)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in (state["exp_avg"], state["exp_avg_sq"])]
    use = memory_use(miniature.shape, train, MemorySetup(2, False), num_gpus=1)
    assert trained_parameters(miniature.shape, train) == sum(p.numel() for p in trained)
    assert use.optimizer_bytes == sum(t.nbytes for t in [*masters, *moments])
    assert use.weights_bytes + use.adapter_bytes == sum(p.nbytes for p in miniature.model.parameters())
