import shutil

import pytest

from warmray.config import ModelConfig
from warmray.errors import InputError
from warmray.models.loading import resolve_model


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
        ("meta-llama/Llama-3.1-8B-Instruct", "weights must be on disk for now"),
    ],
)
def test_a_source_that_is_no_model_folder_is_refused(source, hint):
    with pytest.raises(InputError, match=hint):
        resolve_model(ModelConfig(source=source))


def test_the_digest_follows_the_weights_not_the_place(tiny, tiny_folder, tmp_path):
    copy = shutil.copytree(tiny_folder, tmp_path / "model")
    assert resolve_model(ModelConfig(source=str(copy), dtype="float32")).digest == tiny.digest
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = next(other.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert resolve_model(ModelConfig(source=str(other), dtype="float32")).digest != tiny.digest
