"""The real vLLM on this machine's CPU, in the environment that ``make vllm`` builds."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from jobs.bench.random_model import make_random_adapter
from warmray.errors import InputError
from warmray.generation.engine import Request, Sampling
from warmray.generation.vllm_engine import VllmEngine

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("WARMRAY_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))
needs_vllm = pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-vllm: `make vllm` builds it")


def _request(key, text, strength=0.0, temperature=0.0, seed=0):
    return Request(key, ({"role": "user", "content": text},), Sampling(temperature, 8), strength, seed)


@pytest.fixture(scope="module")
def engine(embedded, tmp_path_factory):
    """The embedded model (vLLM's kernels need heads of 64 values) with a random adapter."""
    adapter = make_random_adapter(embedded, tmp_path_factory.mktemp("adapter"), rank=4, scale=0.5)
    engine = VllmEngine(embedded, adapter, str(PYTHON), max_model_len=128, enforce_eager=True)
    yield engine
    engine.close()


@pytest.mark.slow
@needs_vllm
def test_vllm_answers_every_request_at_every_strength(engine):
    texts = ["Hello there", "What is the capital of France?", "sea " * 200]
    requests = [_request(f"{i}-{s}", text, s) for i, text in enumerate(texts) for s in (0.0, 0.5, 1.0)]
    replies = {c.key: c for batch in engine.generate(requests) for c in batch}
    assert set(replies) == {request.key for request in requests}
    assert {replies[f"2-{s}"].finish_reason for s in (0.0, 0.5, 1.0)} == {"too_long"}
    assert all(replies[f"0-{s}"].tokens <= 8 for s in (0.0, 0.5, 1.0))
    assert replies["1-0.0"].text != replies["1-1.0"].text


@pytest.mark.slow
@needs_vllm
def test_a_row_samples_with_its_own_seed_in_vllm(engine):
    def draw(seeds):
        requests = [_request(str(n), "Hello there", 0.5, 1.0, seed) for n, seed in enumerate(seeds)]
        return {c.key: c.text for batch in engine.generate(requests) for c in batch}

    first = draw([1, 2, 3])
    assert len(set(first.values())) > 1
    assert draw([3, 1])["1"] == first["0"]


def test_the_error_for_a_python_without_vllm_says_how_to_install_it(tiny, tiny_adapter):
    with pytest.raises(InputError, match="vLLM is not installed for this Python: run `make vllm`"):
        VllmEngine(tiny, tiny_adapter, sys.executable)


def test_a_missing_python_is_named(tiny):
    with pytest.raises(InputError, match=r"vllm_python /nowhere/python: No such file"):
        VllmEngine(tiny, None, "/nowhere/python")


def test_an_adapter_of_a_rank_that_vllm_does_not_serve_is_refused(tiny, tiny_adapter, tmp_path):
    folder = shutil.copytree(tiny_adapter.folder, tmp_path / "adapter")
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"r": 1024}))
    with pytest.raises(InputError, match="has rank 1024, and vLLM serves at most 512"):
        VllmEngine(tiny, tiny_adapter.__class__(folder, "x"), sys.executable)
