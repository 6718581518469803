"""Recovery drills on a cluster of three Rays on this machine: `make drills`.

A head for the driver, and nodes for one worker each. Every training is started from the command line and compared with
an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from safetensors.torch import load_file

from tests.nodes import PROGRAMS, Nodes
from warmray.tracking.mlflow_client import Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = pytest.mark.drill
DOSE = 4
STEPS = 84
"""Steps of 168 conversations in batches of 8, four times."""


class Training:
    """A `warmray train` process and its output."""

    def __init__(self, nodes: Nodes, tiny_folder: Path, name: str, *arguments: str, **settings: object) -> None:
        settings = {"num_workers": 2, "doses": f"[{DOSE}]", "max_length": 400, "learning_rate": 0.01} | settings
        command = [str(PROGRAMS / "warmray"), "train", "--name", name, *arguments]
        command += ["--set", f"model.source={tiny_folder}", "--set", "model.dtype=float32"]
        command += [part for key, value in settings.items() for part in ("--set", f"train.{key}={value}")]
        self.name = name
        self.folder = Path(os.environ["WARMRAY_HOME"]) / "trainings" / f"{name}-warm"
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"RAY_ADDRESS": nodes.cluster.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not reached():
            assert self.process.poll() is None, self.process.communicate()[0]
            if time.monotonic() > deadline:
                raise TimeoutError("the training did not reach the awaited state within five minutes")
            time.sleep(0.2)

    def wait_for_step(self, step: int) -> None:
        """Wait until MLflow has logged a step."""
        self.wait_until(lambda: bool(self.steps()) and self.steps()[-1] >= step)

    def steps(self) -> list[int]:
        """Return the steps that MLflow logged, in the order in which they were done."""
        return [step for step, _ in self.metrics("loss")]

    def metrics(self, name: str) -> list[tuple[int, float]]:
        """Return step and value of a metric, in the order in which they were logged."""
        runs = self.runs()
        history = Tracker("warmray").client.get_metric_history(runs[0].info.run_id, name) if runs else []
        return [(m.step, m.value) for m in sorted(history, key=lambda metric: (metric.timestamp, metric.step))]

    def runs(self) -> list[Run]:
        """Return the MLflow runs of this training."""
        tracker = Tracker("warmray")
        return tracker.client.search_runs(
            [tracker.experiment_id], filter_string=f"attributes.run_name = '{self.folder.name}'"
        )

    def finish(self) -> str:
        output = self.process.communicate(timeout=400)[0]
        assert self.process.returncode == 0, output
        return output

    def weights(self) -> dict[str, Any]:
        return load_file(self.folder / f"epoch-{DOSE}" / "adapter_model.safetensors")


def _difference(one: Training, other: Training) -> float:
    """Return, and print for reports, the largest difference between any two tensors of the adapters."""
    a, b = one.weights(), other.weights()
    assert a.keys() == b.keys()
    assert max(tensor.abs().max().item() for name, tensor in a.items() if "lora_B" in name) > 1e-3
    largest = max((a[name] - b[name]).abs().max().item() for name in a)
    print(f"{one.name} against {other.name}: largest difference {largest:.3g}")
    return largest


def _resumed_after(training: Training) -> int:
    """Return the step after which a training resumed."""
    steps = training.steps()
    again = [after for before, after in pairwise(steps) if after <= before]
    assert len(again) == 1, steps
    return again[0] - 1


@pytest.fixture(scope="module")
def uninterrupted(nodes: Nodes, tiny_folder: Path) -> Training:
    training = Training(nodes, tiny_folder, "uninterrupted")
    training.finish()
    assert training.steps() == list(range(1, STEPS + 1))
    return training


def _worker_processes() -> list[int]:
    """Return the training workers of this test's cluster."""
    pids = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                pids.append(process.pid)
    return pids


def _assert_same(training: Training, uninterrupted: Training) -> None:
    assert _difference(uninterrupted, training) <= 1e-6
    assert [run.info.status for run in training.runs()] == ["FINISHED"]


def test_a_worker_killed_in_mid_epoch_does_not_change_the_adapter(nodes, tiny_folder, uninterrupted):
    training = Training(nodes, tiny_folder, "killed-worker")
    training.wait_for_step(25)
    os.kill(_worker_processes()[0], signal.SIGKILL)
    training.finish()
    assert _resumed_after(training) >= 20
    _assert_same(training, uninterrupted)


def test_a_driver_killed_and_restarted_does_not_change_the_adapter(nodes, tiny_folder, uninterrupted):
    killed = Training(nodes, tiny_folder, "killed-driver")
    killed.wait_for_step(25)
    killed.process.kill()
    killed.process.wait()
    refused = Training(nodes, tiny_folder, "killed-driver")
    assert (
        "a training called 'killed-driver' has started: add --resume to continue it" in refused.process.communicate()[0]
    )
    assert refused.process.returncode == 2
    training = Training(nodes, tiny_folder, "killed-driver", "--resume")
    training.finish()
    assert _resumed_after(training) >= 20
    _assert_same(training, uninterrupted)


def test_a_node_lost_and_replaced_does_not_change_the_adapter(nodes, tiny_folder, uninterrupted):
    training = Training(nodes, tiny_folder, "lost-node")
    training.wait_for_step(25)
    nodes.lose()
    nodes.come()
    training.finish()
    assert _resumed_after(training) >= 20
    _assert_same(training, uninterrupted)


def test_the_announced_loss_of_a_node_costs_no_finished_step(nodes, tiny_folder, uninterrupted):
    """Only the notice makes it save: the regular interval is longer than the training."""
    training = Training(nodes, tiny_folder, "preempted", checkpoint_every_steps=1000)
    training.wait_for_step(25)
    nodes.announce_loss(seconds=8)
    time.sleep(8)
    nodes.lose()
    nodes.come()
    training.finish()
    assert _resumed_after(training) >= 25
    _assert_same(training, uninterrupted)


def test_an_elastic_training_continues_with_one_worker_when_a_node_is_lost(nodes, tiny_folder, uninterrupted):
    training = Training(nodes, tiny_folder, "elastic", num_workers="[1,2]")
    training.wait_for_step(25)
    nodes.lose()
    training.finish()
    nodes.come()
    resumed = _resumed_after(training)
    assert resumed >= 20
    workers = [value for _, value in training.metrics("num_workers")]
    assert (workers[0], workers[-1]) == (2, 1)
    # With one worker sums round differently, and Adam amplifies this over forty steps: compare the next ten losses.
    losses, expected = dict(training.metrics("loss")), dict(uninterrupted.metrics("loss"))
    assert losses.keys() == expected.keys()
    differences = [abs(losses[step] - expected[step]) for step in range(resumed + 1, resumed + 11)]
    print(f"elastic against uninterrupted: largest difference of ten losses {max(differences):.3g}")
    assert max(differences) <= 1e-5
    assert [run.info.status for run in training.runs()] == ["FINISHED"]


def test_an_elastic_training_adds_a_second_worker_when_a_node_joins(nodes, tiny_folder):
    """Ray looks for more workers once a minute: this training is long enough."""
    nodes.lose()
    training = Training(nodes, tiny_folder, "growing", num_workers="[1,2]", doses="[60]")
    training.wait_for_step(25)
    nodes.come()
    training.wait_until(lambda: 2 in {value for _, value in training.metrics("num_workers")})
    resumed = _resumed_after(training)
    assert resumed >= 20
    training.wait_for_step(resumed + 20)
    training.process.terminate()
    assert training.process.wait(timeout=120) == 5
    workers, losses = dict(training.metrics("num_workers")), training.metrics("loss")
    assert (workers[resumed], workers[resumed + 5]) == (1, 2)
    assert sorted({step for step, _ in losses}) == list(range(1, max(step for step, _ in losses) + 1))
    done_twice = {step: [value for s, value in losses if s == step] for step, _ in losses}
    differences = [abs(first - again) for first, again in (v for v in done_twice.values() if len(v) == 2)]
    print(f"growing: {len(differences)} steps done again, largest difference of a loss {max(differences):.3g}")
    assert max(differences) <= 1e-4


def test_a_name_resumes_only_the_same_training(nodes, tiny_folder, uninterrupted):
    other = Training(nodes, tiny_folder, "uninterrupted", "--resume", learning_rate=0.02)
    output = other.process.communicate()[0]
    assert other.process.returncode == 2
    assert re.search(
        r"belongs to another training \(train.learning_rate was 0.01, is 0.02\): restore these settings", output
    )
