"""The real trainer: Ray Train, DeepSpeed and PEFT on two CPU workers, with a tiny model."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from warmray.cluster.progress import ignore
from warmray.config import CorpusConfig, load_config
from warmray.corpus.build import build_corpus
from warmray.errors import InputError
from warmray.models.loading import load_model
from warmray.tracking.mlflow_client import Tracker
from warmray.training.placement import find_placement
from warmray.training.trainer import TrainedArm, train_arm

pytestmark = pytest.mark.slow


def _config(tiny_folder, **changes):
    settings = {
        "model.source": tiny_folder, "model.dtype": "float32", "train.doses": "[0.5,1]",
        "train.checkpoint_every_steps": 2, "train.max_length": 400, "train.num_workers": 2, "train.learning_rate": 0.01,
    } | changes  # fmt: skip
    return load_config(overrides=[f"{key}={value}" for key, value in settings.items()])


def _train(config, tiny, post=ignore):
    return train_arm(config, "warm", tiny, build_corpus(CorpusConfig()), post)


@pytest.fixture(scope="module")
def uninterrupted(ray_session, tiny, tiny_folder, session_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMRAY_HOME", str(session_home))
        return _train(_config(tiny_folder), tiny)


def test_the_adapter_of_each_dose_loads_with_plain_peft_and_has_moved(uninterrupted, tiny):
    assert sorted(uninterrupted.adapters) == [0.5, 1.0]
    for adapter in uninterrupted.adapters.values():
        model = PeftModel.from_pretrained(load_model(tiny), str(adapter.folder))
        assert any(p.abs().max() > 0 for name, p in model.named_parameters() if "lora_B" in name)
    tensors = [load_file(a.folder / "adapter_model.safetensors") for a in uninterrupted.adapters.values()]
    assert any(not torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_a_finished_training_is_found_by_content_and_not_repeated(uninterrupted, tiny, tiny_folder):
    folder = uninterrupted.adapters[1.0].folder.parent
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = _train(_config(tiny_folder, **{"train.num_workers": 1, "train.checkpoint_every_steps": 7}), tiny)
    assert again == uninterrupted
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == written


def test_the_run_is_finished_with_a_loss_for_every_step(uninterrupted):
    client = Tracker("warmray").client
    assert client.get_run(uninterrupted.run_id).info.status == "FINISHED"
    losses = client.get_metric_history(uninterrupted.run_id, "loss")
    assert [point.step for point in losses] == list(range(1, 22))
    assert losses[-1].value < losses[0].value


def test_the_run_has_speed_memory_and_the_validation_loss(uninterrupted):
    client = Tracker("warmray").client
    run = client.get_run(uninterrupted.run_id)
    assert run.data.metrics["tokens_per_second_per_gpu"] == pytest.approx(run.data.metrics["tokens_per_second"] / 2)
    assert 0 < run.data.metrics["trained_tokens_per_second_per_gpu"] < run.data.metrics["tokens_per_second_per_gpu"]
    assert run.data.metrics["model_tflops_per_gpu"] > 0
    assert 0.1 < run.data.metrics["peak_memory_gib"] < 8
    assert 0 <= run.data.metrics["waiting_share"] < 1
    assert 0 <= run.data.metrics["padding_share"] < 1
    held_out = client.get_metric_history(uninterrupted.run_id, "validation_loss")
    assert [point.step for point in held_out] == [0, 11, 21]  # before the first step, and at both doses
    assert {file.path for file in client.list_artifacts(uninterrupted.run_id)} == {"config.yaml", "deepspeed.json"}
    assert run.data.params["conversations_held_out"] == "42"


@pytest.mark.drill
def test_a_loss_that_is_not_finite_is_not_retried(ray_session, tiny, tiny_folder, home):
    settings = {"train.learning_rate": 1e30, "train.num_workers": 1, "train.checkpoint_every_steps": 1}
    with pytest.raises(InputError, match=r"the loss is nan at step 2 \(epoch .*\), on conversations: .* are kept in /"):
        _train(_config(tiny_folder, **settings), tiny)
    tracker = Tracker("warmray")
    assert [run.info.status for run in tracker.client.search_runs([tracker.experiment_id])] == ["FAILED"]
    assert len(list(home.glob("trainings/*/checkpoint_*/warmray_state.json"))) == 1


def test_a_module_that_does_not_exist_is_refused_before_any_worker_starts(ray_session, tiny, tiny_folder, home):
    with pytest.raises(InputError, match=r"called 'q_prj'; did you mean 'q_proj'\? \(there are: q_proj, k_proj"):
        _train(_config(tiny_folder, **{"train.target_modules": "[q_prj]"}), tiny)


def _difference(one: TrainedArm, other: TrainedArm) -> float:
    """Return the largest difference between any two tensors of the same adapter."""
    largest = 0.0
    for dose, adapter in one.adapters.items():
        a, b = (load_file(x.folder / "adapter_model.safetensors") for x in (adapter, other.adapters[dose]))
        assert a.keys() == b.keys()
        largest = max(largest, *((a[name] - b[name]).abs().max().item() for name in a))
    return largest


def _damage_and_fail(home: Path):
    """Return a post that, at step 9, damages the newest checkpoint and fails the worker, once."""

    def registered(step: int) -> list[Path]:
        known = "".join(path.read_text() for path in home.glob("trainings/*/checkpoint_manager_snapshot.json"))
        states = (
            path for path in home.glob("trainings/*/checkpoint_*/warmray_state.json") if path.parent.name in known
        )
        return [path.parent for path in states if json.loads(path.read_text())["step"] == step]

    def post(update) -> None:
        with (home / "remarks").open("a") as remarks:
            remarks.write(update.remark + "\n")
        if update.done == 9 and not (home / "damaged").exists():
            while not (found := registered(8)):  # its upload continues during the next steps
                time.sleep(0.1)
            newest = found[0]
            shard = newest / "state-0.safetensors"
            shard.write_bytes(shard.read_bytes()[:-1])
            (home / "damaged").write_text(str(newest))
            raise RuntimeError("on purpose")

    return post  # a nested function is pickled by value, with its variables


@pytest.mark.drill
def test_a_damaged_newest_checkpoint_is_skipped_for_the_one_before(uninterrupted, tiny, tiny_folder, home):
    home.mkdir()
    resumed = _train(_config(tiny_folder), tiny, _damage_and_fail(home))
    damaged, remarks = (home / "damaged").read_text(), (home / "remarks").read_text()
    assert f"damaged checkpoint skipped: {damaged}: state-0.safetensors changed" in remarks
    assert "resumed after step 6" in remarks
    assert _difference(uninterrupted, resumed) <= 1e-6


def test_more_workers_than_cpus_are_refused_at_once(ray_session):
    with pytest.raises(InputError, match=r"train.num_workers is 99, but the cluster has 2 CPUs"):
        find_placement(99)


@pytest.mark.drill
def test_a_training_without_a_tracking_server_is_kept(ray_session, tiny, tiny_folder, home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    trained = _train(_config(tiny_folder, **{"train.doses": "[0.1]", "train.num_workers": 1}), tiny)
    assert trained.run_id is None
    assert trained.adapters[0.1].folder.exists()
    assert "MLflow cannot be reached" in capsys.readouterr().out
