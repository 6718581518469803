import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from warmray.config import ModelConfig
from warmray.errors import InputError
from warmray.models.loading import load_model, load_tokenizer, resolve_model


def test_a_folder_without_weights_is_refused(tiny_folder, tmp_path):
    copy = shutil.copytree(tiny_folder, tmp_path / "model")
    for path in copy.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(InputError, match="holds no weights"):
        resolve_model(ModelConfig(source=str(copy)))


def test_a_folder_without_a_chat_template_is_refused(tiny_folder, tmp_path):
    copy = shutil.copytree(tiny_folder, tmp_path / "model")
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="has no chat template"):
        resolve_model(ModelConfig(source=str(copy)))


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("./models/x", "relative path"),
        ("/no/such", "holds no config.json"),
        ("Llama-3.1-8B-Instruct", "a hub id"),
    ],
)
def test_a_source_that_is_not_a_model_folder_is_refused(source, hint):
    with pytest.raises(InputError, match=hint):
        resolve_model(ModelConfig(source=source))


def test_the_digest_depends_on_the_weights_and_not_on_the_folder(tiny, tiny_folder, tmp_path):
    copy = shutil.copytree(tiny_folder, tmp_path / "model")
    assert resolve_model(ModelConfig(source=str(copy), dtype="float32")).digest == tiny.digest
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = next(other.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert resolve_model(ModelConfig(source=str(other), dtype="float32")).digest != tiny.digest


def test_without_a_device_transformers_places_nothing(tiny, monkeypatch):
    arguments = _arguments_of_loading(tiny, monkeypatch)
    assert "device_map" not in arguments  # DeepSpeed's ZeRO-3 refuses one
    assert arguments["attn_implementation"] == "sdpa"
    assert arguments["use_safetensors"]
    assert not arguments["trust_remote_code"]


@pytest.mark.parametrize(
    ("dtype", "is_installed", "attention"),
    [("bfloat16", True, "flash_attention_2"), ("bfloat16", False, "sdpa"), ("float32", True, "sdpa")],
)
def test_on_a_gpu_flash_attention_is_used_if_installed_and_16_bit(tiny, monkeypatch, dtype, is_installed, attention):
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: is_installed)
    device = torch.device("cuda:1")
    monkeypatch.setattr("warmray.models.loading.best_device", lambda: device)
    arguments = _arguments_of_loading(replace(tiny, dtype=dtype), monkeypatch, device)
    assert (arguments["device_map"], arguments["attn_implementation"]) == ({"": device}, attention)


def _arguments_of_loading(base, monkeypatch, device=None):
    received = {}
    original = AutoModelForCausalLM.from_pretrained

    def recorded(folder, **arguments):
        received.update(arguments)
        return original(folder, local_files_only=True)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", recorded)
    load_model(base, device)
    return received


def test_a_model_loaded_onto_a_device_is_the_same(tiny):
    placed, plain = load_model(tiny, torch.device("cpu")), load_model(tiny)
    assert all(map(torch.equal, placed.parameters(), plain.parameters()))
    assert placed.config._attn_implementation == plain.config._attn_implementation == "sdpa"


def test_code_in_a_model_folder_is_refused_without_asking(tiny_folder, tmp_path):
    copy = shutil.copytree(tiny_folder, tmp_path / "model")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    base = resolve_model(ModelConfig(source=str(copy)))
    load_tokenizer(base)
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_model(base)
    assert not (tmp_path / "ran").exists()
