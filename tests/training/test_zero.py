import json

import pytest

from warmray.config import TrainConfig
from warmray.errors import InputError
from warmray.training.zero import deepspeed_settings


def _settings(path, text):
    path.write_text(text, encoding="utf-8")
    return deepspeed_settings(TrainConfig(deepspeed_config=str(path)), "bfloat16")


def test_a_file_is_merged_into_our_settings_object_by_object(tmp_path):
    ours = deepspeed_settings(TrainConfig(), "bfloat16")
    file = {"gradient_clipping": 0.5, "zero_optimization": {"reduce_bucket_size": 7}}
    merged = _settings(tmp_path / "deepspeed.json", json.dumps(file))
    zero = ours["zero_optimization"] | {"reduce_bucket_size": 7}
    assert merged == ours | {"gradient_clipping": 0.5, "zero_optimization": zero}


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ({"bf16": {"enabled": False}}, "sets bf16, but model.dtype decides it: remove bf16 from the file"),
        ({"zero_optimization": {"stage": 1}}, "sets zero_optimization.stage, but train.zero_stage decides it"),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "nvme"}}},
            "sets zero_optimization.offload_optimizer.device, but train.offload decides it",
        ),
        ([1], "is not a JSON object: write it in the form of DeepSpeed's configuration"),
    ],
)
def test_a_file_that_sets_what_warmray_decides_is_refused(tmp_path, file, hint):
    with pytest.raises(InputError) as caught:
        _settings(tmp_path / "deepspeed.json", json.dumps(file))
    assert hint in str(caught.value)


def test_settings_beside_a_derived_one_are_accepted(tmp_path):
    file = {"zero_optimization": {"offload_optimizer": {"pin_memory": True}}}
    merged = _settings(tmp_path / "deepspeed.json", json.dumps(file))
    assert merged["zero_optimization"]["offload_optimizer"] == {"pin_memory": True}


def test_an_unreadable_file_and_a_relative_path_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read as JSON"):
        _settings(tmp_path / "deepspeed.json", "{")
    with pytest.raises(InputError, match=r"deepspeed\.json is a relative path: give an absolute one"):
        deepspeed_settings(TrainConfig(deepspeed_config="deepspeed.json"), "bfloat16")
