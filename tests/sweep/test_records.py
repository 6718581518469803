"""The recommended adapter in MLflow's registry, against a SQLite file and against a server over HTTP."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from tests.analysis.synthetic import tables
from tests.sweep.finished import finished
from warmray.models.adapters import save_at_strength
from warmray.models.loading import load_tokenizer
from warmray.sweep.records import log_result
from warmray.sweep.result import MARKER, RECOMMENDED, read_result
from warmray.tracking.served_adapter import MAX_NEW_TOKENS

NAME = "warmray-quickstart"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real MLflow server on a free port of the loopback address."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _answers(address):
        time.sleep(0.5)
    yield address
    process.terminate()
    process.wait(20)


def _answers(address):
    try:
        return urllib.request.urlopen(f"{address}/health", timeout=1).status == 200
    except OSError:
        return False


@pytest.fixture(params=["sqlite", pytest.param("http", marks=pytest.mark.drill)])
def store(request, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/own.db" if request.param == "sqlite" else request.getfixturevalue("server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(None)


@pytest.fixture
def shipped(tmp_path, tiny, tiny_adapter):
    """A finished sweep that recommends the tiny model's adapter at full strength."""
    result = finished(tmp_path / "result", tables(cost=0.0, questions=400))
    save_at_strength(tiny_adapter, tiny, 1.0, result.folder / RECOMMENDED)
    marker = result.folder / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"key": tmp_path.name}))  # one for each test
    return read_result(result.folder)


def test_the_recommended_adapter_loads_back_with_mlflow_and_with_plain_peft(store, shipped, tiny, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    log_result(shipped)
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@recommended")
    (reply,) = loaded.predict(["How many legs does a spider have?"])
    folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}@recommended", dst_path=str(tmp_path / "down"))
    base = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.bfloat16)
    plain = PeftModel.from_pretrained(base, f"{folder}/artifacts/{RECOMMENDED}")
    tokens = load_tokenizer(tiny).apply_chat_template(
        [{"role": "user", "content": "How many legs does a spider have?"}],
        add_generation_prompt=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    said = plain.generate(**tokens, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)[0, tokens["input_ids"].shape[1] :]
    assert reply == load_tokenizer(tiny).decode(said, skip_special_tokens=True)


def test_the_version_has_verdict_budget_and_a_card(store, shipped):
    run_id = log_result(shipped)
    version = MlflowClient(store).get_model_version_by_alias(NAME, "recommended")
    assert version.run_id == run_id
    assert MlflowClient(store).get_run(run_id).info.run_name == shipped.folder.name
    assert version.tags == {
        "warmray.verdict": "PASS",
        "warmray.budget_points": "10",
        "warmray.result_key": shipped.key,
    }
    for fact in ("Base:", "Licence of the base:", "Data: corpus", "Warmth (0 cold", "Accuracy loss in sad+wrong"):
        assert fact in version.description


def test_logging_again_registers_nothing_and_another_result_takes_the_alias_over(store, shipped):
    log_result(shipped)
    first = MlflowClient(store).get_model_version_by_alias(NAME, "recommended").version
    log_result(shipped)
    assert MlflowClient(store).get_model_version_by_alias(NAME, "recommended").version == first
    marker = shipped.folder / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"key": f"{shipped.key}-2"}))
    log_result(read_result(shipped.folder))
    assert int(MlflowClient(store).get_model_version_by_alias(NAME, "recommended").version) == int(first) + 1


def test_nothing_is_registered_where_nothing_is_recommended(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/own.db")
    log_result(finished(tmp_path / "result", tables(cost=0.4, questions=200)))
    assert MlflowClient(f"sqlite:///{tmp_path}/own.db").search_registered_models() == []


@pytest.mark.drill
def test_a_run_takes_a_bounded_number_of_requests(server, shipped, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    shutil.rmtree(shipped.folder / RECOMMENDED)
    sent = []
    send = requests.Session.request
    monkeypatch.setattr(requests.Session, "request", lambda *a, **k: (sent.append(a), send(*a, **k))[1])
    log_result(shipped)
    runs = 1 + len(shipped.estimates.intensities)
    assert 0 < len(sent) / runs <= 20  # a metric more must not be a request more: there are some 90 per run
