"""Shared by all tests: a home of their own, one dequantised model, a tiny random model, one Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _own_home(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMRAY_HOME", str(session_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for one test alone."""
    monkeypatch.setenv("WARMRAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def embedded(session_home: Path):
    """The real 135M model, dequantised (20 s) once per virtual environment."""
    from warmray.config import ModelConfig
    from warmray.models.loading import resolve_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMRAY_HOME", str(Path(sys.prefix) / "tests"))
        kept = resolve_model(ModelConfig()).folder
        (session_home / "models").mkdir()
        (session_home / "models" / kept.name).symlink_to(kept)
        patch.setenv("WARMRAY_HOME", str(session_home))
        return resolve_model(ModelConfig())


@pytest.fixture(scope="session")
def tiny_folder(embedded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers in float32, with the real tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("tiny") / "model"
    config = AutoConfig.from_pretrained(embedded.folder)
    config.update({"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4})
    config.update({"num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 256, "layer_types": None})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config.pad_token_id = config.pad_token_id
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded.folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path):
    from warmray.config import ModelConfig
    from warmray.models.loading import resolve_model

    return resolve_model(ModelConfig(source=str(tiny_folder), dtype="float32"))


@pytest.fixture(scope="session")
def tiny_adapter(tiny, tmp_path_factory: pytest.TempPathFactory):
    """A LoRA adapter with random weights, large enough to change what the tiny model says."""
    from jobs.bench.random_model import make_random_adapter

    return make_random_adapter(tiny, tmp_path_factory.mktemp("adapter"), rank=4, scale=0.3)


LLAMA_ROPE = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
MINIATURES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {"model_type": "llama", "num_key_value_heads": 2, "rope_parameters": LLAMA_ROPE},
    "llama-3.1-70b": {"model_type": "llama", "num_key_value_heads": 1, "rope_parameters": LLAMA_ROPE},
    "mistral-small-2409": {"model_type": "mistral", "num_key_value_heads": 2, "head_dim": 12, "sliding_window": None},
    "qwen2.5-32b": {"model_type": "qwen2", "num_key_value_heads": 2, "rms_norm_eps": 1e-6},
}
"""What tells the architectures of the study's four models apart; the rest is shared and small."""


@pytest.fixture(scope="session", params=MINIATURES)
def miniature(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Builds a model of two layers in float32, the same random weights at every call; keywords change its config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    def build(**changes: Any) -> Any:
        config = AutoConfig.for_model(
            vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
            max_position_embeddings=256, tie_word_embeddings=False, initializer_range=0.2, pad_token_id=0,
            **MINIATURES[request.param] | changes,
        )  # fmt: skip
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)

    return build


@pytest.fixture(scope="session")
def ray_session(session_home: Path) -> Iterator[None]:
    """One Ray on loopback for every test that needs one; its workers know the session's home."""
    import ray

    from warmray.cluster.ray_session import LOCAL_RAY

    ray.init(**LOCAL_RAY, num_cpus=2, runtime_env={"env_vars": {"WARMRAY_HOME": str(session_home)}})
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def nodes(session_home: Path) -> Iterator[Any]:
    """Three Rays on this machine, for drills."""
    from tests.nodes import Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMRAY_HOME", str(session_home))
        nodes = Nodes()
        yield nodes
        nodes.cluster.shutdown()
