from functools import cache

import pytest

from warmray.config import TrainConfig, load_config
from warmray.errors import InputError
from warmray.models.architecture import Architecture, load_architecture
from warmray.models.gpu_fit import fit_setup
from warmray.models.memory import MemorySetup

_shape = cache(load_architecture)
H100 = (79.1, "NVIDIA H100 80GB HBM3")


def _training(preset: str, *overrides: str) -> tuple[TrainConfig, Architecture]:
    config = load_config(preset, overrides=list(overrides))
    return config.train, _shape(config.model)


@pytest.mark.parametrize(("preset", "recomputes"), [("llama-3.1-8b", False), ("mistral-small", True)])
def test_auto_recomputes_only_activations_that_do_not_fit(preset, recomputes):
    assert fit_setup(*_training(preset), 2, *H100) == MemorySetup(1, recomputes)


def test_explicit_settings_are_kept():
    training = _training("llama-3.1-8b", "train.gradient_checkpointing=true", "train.offload=[optimizer]")
    assert fit_setup(*training, 2, *H100) == MemorySetup(1, True, frozenset({"optimizer"}))


def test_the_studys_70b_training_is_refused_on_two_h100_with_the_plans_figures_and_accepted_on_three():
    training = _training("llama-3.1-70b", "recipe=study")
    with pytest.raises(InputError) as caught:
        fit_setup(*training, 2, *H100)
    message = str(caught.value)
    assert message.startswith(
        "meta-llama/Llama-3.1-70B-Instruct does not fit on 2 x NVIDIA H100 80GB HBM3: ZeRO-3 with"
    )
    assert "needs 76.7 GiB per GPU (weights 67.8, adapter 0.2," in message
    assert "but only 71.2 of 79.1 GiB are usable: use 3 GPUs, or set train.offload=" in message
    assert "\n" not in message
    assert fit_setup(*training, 3, *H100) == MemorySetup(3, True)


@pytest.mark.parametrize(
    ("preset", "settings", "num_gpus", "remedy"),
    [
        ("mistral-small", ["zero_stage=3", "gradient_checkpointing=false"], 2, ": use 5 GPUs, or set train.grad"),
        ("llama-3.1-70b", ["zero_stage=1"], 2, ": use 3 GPUs and set train.zero_stage=3, or set train.zero_st"),
        ("llama-3.1-70b", ["zero_stage=1"], 4, "usable: set train.zero_stage=3"),
        ("llama-3.1-8b", ["zero_stage=2", "method=full", "gradient_checkpointing=false"], 2,
         ": use 5 GPUs, or use 3 GPUs and set train.gradient_checkpointing=true, or set train.zero"),
    ],
)  # fmt: skip
def test_the_error_for_a_training_that_does_not_fit_says_what_to_change(preset, settings, num_gpus, remedy):
    training = _training(preset, *(f"train.{setting}" for setting in settings))
    with pytest.raises(InputError) as caught:
        fit_setup(*training, num_gpus, *H100)
    assert remedy in str(caught.value)


def test_the_error_for_a_gpu_that_is_too_small_in_any_number_says_so():
    with pytest.raises(InputError, match="no number of these GPUs is enough; use larger ones, or lower"):
        fit_setup(*_training("llama-3.1-70b"), 4, 6, "small GPU")


@pytest.mark.parametrize("setting", ["auto", "true", "false"])
def test_on_a_cpu_nothing_is_refused_and_auto_recomputes_nothing(setting):
    train, shape = _training("llama-3.1-70b", f"train.gradient_checkpointing={setting}")
    assert fit_setup(train, shape, 1, None, "cpu").gradient_checkpointing is (setting == "true")


@pytest.mark.parametrize("setting", ["auto", "true", "false"])
def test_an_unknown_architecture_is_not_refused_and_auto_recomputes(setting):
    train, _ = _training("llama-3.1-8b", f"train.gradient_checkpointing={setting}")
    assert fit_setup(train, None, 1, *H100).gradient_checkpointing is (setting != "false")
