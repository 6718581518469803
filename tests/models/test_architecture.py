import json
from dataclasses import replace

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig

from warmray.config import ModelConfig
from warmray.errors import InputError
from warmray.models.architecture import (
    check_target_modules,
    known_sources,
    linear_names,
    load_architecture,
    meta_model,
    transformers_config,
)

PARAMETERS = {
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "mistralai/Mistral-Small-Instruct-2409": 22_247_282_688,
    "Qwen/Qwen2.5-32B-Instruct": 32_763_876_352,
    "meta-llama/Llama-3.1-70B-Instruct": 70_553_706_496,
    "embedded": 134_515_008,
}


def test_every_known_model_has_its_exact_number_of_parameters():
    counted = {source: load_architecture(ModelConfig(source=source)).parameters for source in known_sources()}
    assert counted == PARAMETERS


@pytest.mark.parametrize("source", known_sources())
@pytest.mark.parametrize(("rank", "targets"), [(8, "all-linear"), (16, ["q_proj", "v_proj"]), (4, ["down_proj"])])
def test_the_adapter_has_exactly_the_parameters_that_peft_creates(source, rank, targets):
    model = meta_model(_short(source))
    peft_model = get_peft_model(model, LoraConfig(r=rank, target_modules=targets, task_type="CAUSAL_LM"))
    trained, _ = peft_model.get_nb_trainable_parameters()
    whole = load_architecture(ModelConfig(source=source))
    two_layers = replace(whole, linears=whole.linears[: len(whole.linears) // whole.num_layers * 2])
    assert two_layers.adapter_parameters(rank, targets) == trained


def _short(source: str) -> AutoConfig:
    """The full-size configuration with two layers."""
    config = transformers_config(source)
    return type(config)(**config.to_dict() | {"num_hidden_layers": 2, "layer_types": None})


def test_the_packaged_shape_of_the_embedded_model_equals_that_of_its_checkpoint(embedded):
    on_disk = load_architecture(ModelConfig(source=str(embedded.folder)))
    assert replace(on_disk, name="embedded") == load_architecture(ModelConfig())


def test_a_folder_needs_only_its_config_json(tmp_path):
    _short("Qwen/Qwen2.5-32B-Instruct").save_pretrained(tmp_path)
    shape = load_architecture(ModelConfig(source=str(tmp_path)))
    assert (shape.num_layers, shape.hidden_size, len(shape.linears)) == (2, 5120, 14)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (None, "is not known: give the absolute path"),
        (
            {"model_type": "gpt2", "n_layer": 1},
            "is a GPT2LMHeadModel, but memory can be estimated only for gated-MLP decoders",
        ),
        ({"model_type": "no-such"}, "is not a valid model configuration"),
        ({"model_type": "t5"}, "a t5 model is not a causal language model"),
    ],
)
def test_a_model_whose_memory_cannot_be_estimated_is_refused_in_one_line(settings, hint, tmp_path):
    if settings:
        (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=hint) as caught:
        load_architecture(ModelConfig(source=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_the_error_for_an_unknown_hub_id_lists_the_known_ones():
    with pytest.raises(InputError, match=r"org/other.*one of meta-llama/Llama-3\.1-8B-Instruct, "):
        load_architecture(ModelConfig(source="org/other"))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"model_type": "llama"}, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        ({"model_type": "gpt2"}, ["c_attn", "c_proj", "c_fc"]),
        ({"model_type": "gpt_neox"}, ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
    ],
)
def test_the_linear_layers_of_any_causal_model_are_those_that_peft_adapts(settings, names):
    model = meta_model(AutoConfig.for_model(**settings, num_hidden_layers=1))
    assert linear_names(model) == names
    peft_model = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    assert {path.rsplit(".", 1)[-1] for path in peft_model.targeted_module_names} == set(names)


def test_target_modules_must_exist():
    existing = ["q_proj", "k_proj", "q_proj", "k_proj"]
    check_target_modules("all-linear", existing)
    check_target_modules(["q_proj"], existing)
    with pytest.raises(InputError, match=r"called 'q_prj'; did you mean 'q_proj'\? \(there are: q_proj, k_proj\)"):
        check_target_modules(["k_proj", "q_prj"], existing)
    with pytest.raises(InputError, match=r"no linear layer that can take an adapter is called 'lm_head' \(there"):
        check_target_modules(["lm_head"], existing)
