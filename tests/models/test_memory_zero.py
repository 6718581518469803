"""The plan's figures for full training, compared with DeepSpeed: two processes over gloo count their storages."""

from __future__ import annotations

import json
import os
import socket
from multiprocessing import set_forkserver_preload
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tests.peak_memory import PeakMemory
from warmray.config import TrainConfig
from warmray.models import memory
from warmray.models.architecture import meta_model, read_shape
from warmray.models.memory import BF16_BYTES, FP32_BYTES, MemorySetup, memory_use
from warmray.training.loss import loss_sum

pytestmark = pytest.mark.drill
TOLERANCE = 0.15
WORLD_SIZE = 2
TRAIN = TrainConfig(method="full", row_length=256, max_length=256)
CONFIG = {
    "vocab_size": 2048, "hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip
SMALL = 10_000
"""Number of parameters in each of DeepSpeed's buffers: the defaults are larger than this model."""


class SumOfLoss(nn.Module):
    """Token ids in, summed loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **CONFIG), dtype=torch.bfloat16)
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.model.get_decoder()(input_ids=token_ids, use_cache=False).last_hidden_state
        return loss_sum(hidden[0], token_ids[0], self.model.get_output_embeddings())


def _engine(zero_stage: int):
    import deepspeed

    model = SumOfLoss().train()
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        "gradient_clipping": 1.0,
        "zero_optimization": {
            "stage": zero_stage,
            "overlap_comm": False,
            "reduce_bucket_size": SMALL,
            "allgather_bucket_size": SMALL,
            "stage3_max_live_parameters": SMALL,
            "stage3_max_reuse_distance": SMALL,
            "stage3_prefetch_bucket_size": SMALL,
        },
    }
    optimizer = torch.optim.AdamW(model.parameters())
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings, dist_init_required=False)
    return engine


def _peaks(zero_stage: int) -> tuple[int, int]:
    """Return the peak bytes in a backward pass and in the optimizer step, both after a first step of two passes."""
    token_ids = torch.randint(0, CONFIG["vocab_size"], (1, TRAIN.row_length))
    with PeakMemory([]) as counted:
        engine = _engine(zero_stage)
        for last in (False, True, False, True):
            counted.peak_bytes = counted.live_bytes
            loss = engine(token_ids)
            engine.set_gradient_accumulation_boundary(last)
            engine.backward(loss)
            backward_bytes, counted.peak_bytes = counted.peak_bytes, counted.live_bytes
            engine.step()
    return backward_bytes, counted.peak_bytes


def _rank(rank: int, port: int, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE), "DS_ACCELERATOR": "cpu"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    peaks = {stage: _peaks(stage) for stage in (1, 2, 3)}
    if rank == 0:
        out.write_text(json.dumps(peaks))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, tuple[int, int]]:
    out = tmp_path_factory.mktemp("zero") / "peaks.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    set_forkserver_preload(["deepspeed", "transformers"])
    mp.start_processes(_rank, (port, out), nprocs=WORLD_SIZE, start_method="forkserver")
    return json.loads(out.read_text())


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_both_peaks_of_full_training_under_deepspeed_are_as_planned(zero_stage, measured, monkeypatch):
    monkeypatch.setattr(memory, "LIVE_PARAMETERS", SMALL)
    monkeypatch.setattr(memory, "PREFETCHED_PARAMETERS", SMALL)
    shape = read_shape("llama", meta_model(AutoConfig.for_model("llama", **CONFIG)))
    use = memory_use(shape, TRAIN, MemorySetup(zero_stage, gradient_checkpointing=True), WORLD_SIZE)
    always = use.weights_bytes + use.optimizer_bytes
    backward = always + use.gradients_bytes + use.activations_bytes + use.logits_bytes
    gathered = BF16_BYTES * (shape.largest_tensor + SMALL) if zero_stage == 3 else 0  # in the backward pass only
    # On a CPU, torch's AdamW computes its denominator in two tensors.
    of_cpu = FP32_BYTES * shape.parameters // WORLD_SIZE
    planned = [backward, always - gathered + use.step_bytes + of_cpu]
    assert planned == pytest.approx(measured[str(zero_stage)], rel=TOLERANCE)
