from dataclasses import replace

import pytest

from warmray.config import TrainConfig
from warmray.errors import InputError
from warmray.models.loading import BaseCheckpoint
from warmray.training.placement import Device, Placement, read_base, settle


@pytest.fixture(scope="module")
def shape(tiny: BaseCheckpoint):
    return read_base(tiny)


def _on(memory_gib: float, num_workers: int | tuple[int, int] = 2) -> Placement:
    return Placement(num_workers, Device("NVIDIA H100 80GB HBM3", memory_gib))


def test_a_model_is_counted_exactly_without_its_weights(shape, tiny):
    from safetensors.torch import load_file

    assert shape.parameters == sum(
        t.numel() for path in tiny.folder.glob("*.safetensors") for t in load_file(path).values()
    )
    assert "q_proj" in shape.linear_names
    assert "lm_head" not in shape.linear_names


def test_activations_are_recomputed_only_if_a_gpu_cannot_keep_them(shape):
    train = TrainConfig(row_length=65536)
    assert settle(train, shape, _on(80)).gradient_checkpointing is False
    assert settle(train, shape, _on(16)).gradient_checkpointing is True
    assert settle(train, shape, Placement(2, None)).gradient_checkpointing is False


@pytest.mark.parametrize("asked", [True, False])
def test_an_explicit_gradient_checkpointing_setting_is_kept(shape, asked):
    assert settle(TrainConfig(gradient_checkpointing=asked), shape, _on(80)).gradient_checkpointing is asked


def test_gpus_that_cannot_hold_the_training_are_refused_with_the_estimate(shape):
    with pytest.raises(InputError, match=r"does not fit on 1 x NVIDIA H100 80GB HBM3: .* needs .* GiB per GPU"):
        settle(TrainConfig(row_length=65536), shape, _on(2, (1, 4)))


def test_a_model_whose_memory_cannot_be_estimated_is_not_refused(shape):
    unknown = replace(shape, architecture=None)
    assert settle(TrainConfig(), unknown, _on(2)).gradient_checkpointing is True
