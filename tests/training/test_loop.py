"""The loop without Ray: one or two processes over gloo, a tiny model in float32."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from warmray.config import load_config
from warmray.errors import InputError
from warmray.training.loop import StepReport, TrainingTask, run_training
from warmray.training.state import STATE_NAME, CorruptStateError, check_state
from warmray.training.tokens import Example

pytestmark = pytest.mark.slow
STEPS = 6


def _examples() -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 9, 12, 7, 14, 6, 11, 8]
    tokens = [torch.randint(20, 4000, (length,), generator=generator).tolist() for length in lengths]
    return [
        Example(f"e{i}", tuple(ids), tuple(place > len(ids) // 2 for place in range(len(ids))))
        for i, ids in enumerate(tokens)
    ]


def _rank(rank: int, world_size: int, port: int, task: TrainingTask, resume: Path | None, stop: int, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "DS_ACCELERATOR": "cpu"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    reports: list[StepReport] = []

    def save(report: StepReport, write: Any) -> None:
        folder = out / f"state-{report.step}"
        if rank == 0:
            folder.mkdir(parents=True)
        write(folder)
        dist.barrier()
        if report.step == stop:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        run_training(task, resume, lambda done: None, reports.append, save)
    if rank == 0:
        torch.save(reports, out / "reports.pt")
    dist.destroy_process_group()


def _run(
    task: TrainingTask, world_size: int, out: Path, resume: Path | None = None, stop: int = -1
) -> list[StepReport]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out.mkdir(parents=True, exist_ok=True)
    task = replace(task, output=out)
    # Forked from a server that has imported everything once: imports take longer than these trainings.
    set_forkserver_preload(["deepspeed", "peft", "transformers", "warmray.training.loop"])
    mp.start_processes(_rank, (world_size, port, task, resume, stop, out), nprocs=world_size, start_method="forkserver")
    return torch.load(out / "reports.pt", weights_only=False)


@pytest.fixture(scope="module")
def task_with(tiny, tiny_folder, tmp_path_factory):
    def task(**changes) -> TrainingTask:
        settings = {
            "model.source": tiny_folder, "model.dtype": "float32", "train.doses": f"[{STEPS / 2}]",
            "train.batch_size": 4, "train.max_length": 16, "train.row_length": 16, "train.learning_rate": 0.01,
            "train.checkpoint_every_steps": 3,
        } | {f"train.{key}": value for key, value in changes.items()}  # fmt: skip
        config = load_config(overrides=[f"{key}={value}" for key, value in settings.items()])
        return TrainingTask(tiny, config.train, 0, _examples(), {"base_digest": tiny.digest}, Path("unset"))

    return task


@pytest.fixture(scope="module")
def alone(task_with, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    return out, _run(task_with(), 1, out)


def _difference(one: Path, other: Path) -> float:
    a, b = (load_file(out / "epoch-3" / "adapter_model.safetensors") for out in (one, other))
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def _losses(reports: list[StepReport]) -> list[float]:
    return [report.loss for report in reports]


def test_two_workers_train_what_one_trains(task_with, alone, tmp_path):
    reports = _run(task_with(), 2, tmp_path)
    assert _losses(reports) == pytest.approx(_losses(alone[1]), abs=1e-5)
    assert _difference(alone[0], tmp_path) < 1e-5


def test_long_rows_train_what_short_rows_train(task_with, alone, tmp_path):
    reports = _run(task_with(row_length=64), 1, tmp_path)
    assert _losses(reports) == pytest.approx(_losses(alone[1]), abs=1e-5)
    assert _difference(alone[0], tmp_path) < 1e-4


def test_computing_activations_again_changes_nothing(task_with, alone, tmp_path):
    reports = _run(task_with(gradient_checkpointing=True), 1, tmp_path)
    assert _losses(reports) == pytest.approx(_losses(alone[1]), abs=1e-6)
    assert _difference(alone[0], tmp_path) < 1e-6


@pytest.mark.parametrize("stage", [1, 3])
def test_every_zero_stage_trains_the_same(task_with, alone, tmp_path, stage):
    reports = _run(task_with(zero_stage=stage), 2, tmp_path)
    assert _losses(reports) == pytest.approx(_losses(alone[1]), abs=1e-4)
    assert _difference(alone[0], tmp_path) < 1e-4


@pytest.mark.parametrize(("before", "after", "bound"), [(1, 1, 1e-6), (2, 1, 1e-5), (1, 2, 1e-5)])
def test_a_resumed_training_ends_as_if_never_stopped_on_as_many_workers_or_not(
    task_with, alone, tmp_path, before, after, bound
):
    _run(task_with(), before, tmp_path / "first", stop=3)
    state = tmp_path / "first" / "state-3"
    reports = _run(task_with(), after, tmp_path / "second", resume=state)
    assert [report.step for report in reports] == [4, 5, 6]
    assert _difference(alone[0], tmp_path / "second") < bound


def test_a_state_holds_the_trained_weights_only_and_tells_when_it_was_damaged(alone, tiny):
    folder = alone[0] / "state-3"
    check_state(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < sum(path.stat().st_size for path in tiny.folder.glob("*.safetensors"))
    names = load_file(folder / "state-0.safetensors").keys()
    assert len(names) > 0
    assert all("lora_" in name for name in names)
    shard = folder / "state-0.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CorruptStateError, match=r"state-0.safetensors changed after it was written"):
        check_state(folder)
    (folder / STATE_NAME).unlink()
    with pytest.raises(CorruptStateError, match="holds no readable"):
        check_state(folder)


def test_rows_shorter_than_conversations_are_refused():
    with pytest.raises(InputError, match="row_length 100 is under max_length 512: raise it"):
        load_config(overrides=["train.row_length=100"])
