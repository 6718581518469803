import json
import shutil

import pytest
import torch
from peft import PeftModel

from warmray.errors import InputError
from warmray.models.adapters import AdaptedModel, resolve_adapter, save_at_strength
from warmray.models.loading import load_model

IDS = torch.arange(100, 132)[None]


def _logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def test_strength_zero_is_the_base_model_bit_by_bit(tiny, tiny_adapter):
    base = _logits(load_model(tiny))
    adapted = AdaptedModel(load_model(tiny), tiny_adapter)
    with adapted.at_strength(0.7):
        pass
    with adapted.at_strength(0) as model:
        assert torch.equal(_logits(model), base)


@pytest.mark.parametrize("strength", [0.25, 1.0, 1.5, -0.5])
def test_a_strength_equals_plain_peft_with_the_saved_copy(tiny, tiny_adapter, tmp_path, strength):
    save_at_strength(tiny_adapter, tiny, strength, tmp_path)
    plain = PeftModel.from_pretrained(load_model(tiny), str(tmp_path))
    with AdaptedModel(load_model(tiny), tiny_adapter).at_strength(strength) as model:
        ours = _logits(model)
    assert torch.allclose(ours, _logits(plain), atol=1e-4)
    assert not torch.allclose(ours, _logits(load_model(tiny)), atol=1e-2)


def test_an_adapter_of_another_base_is_refused(tiny, tiny_adapter, tmp_path):
    copy = shutil.copytree(tiny_adapter.folder, tmp_path / "adapter")
    (copy / "warmray.json").write_text(json.dumps({"base_digest": "another"}))
    with pytest.raises(InputError, match="was trained on base another"):
        resolve_adapter(copy, tiny)


def test_an_adapter_whose_tensors_do_not_fit_is_refused(embedded, tiny_adapter):
    with pytest.raises(InputError, match="does not fit the base model"):
        AdaptedModel(load_model(embedded), tiny_adapter)


def test_a_folder_without_an_adapter_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match=r"holds no adapter_config\.json"):
        resolve_adapter(tmp_path, tiny)
