"""The whole path with the real 135M model, through ``ray job submit`` as README tells it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray

from warmray.evaluation.stores import completion_store
from warmray.sweep.records import log_result
from warmray.sweep.result import read_result
from warmray.tracking.mlflow_client import Tracker

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SMALL = [
    "evaluate.max_items=4", "evaluate.warmth_prompts=24", "evaluate.max_new_tokens=24", "evaluate.batch_size=24",
    "sweep.strengths=[0,1]", "sweep.system_prompts=[warm]", "sweep.bootstrap_resamples=200",
    "train.doses=[0.25]", "train.learning_rate=0.003",
]  # fmt: skip


def _submit(*arguments: str) -> subprocess.Popen[str]:
    address = ray._private.worker.global_worker.node.address_info["webui_url"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "WARMRAY_HOME": os.environ["WARMRAY_HOME"]}
    command = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", f"http://{address}"]
    command += ["--working-dir", str(ROOT), "--runtime-env-json", json.dumps({"env_vars": environment})]
    command += ["--", "python", "jobs/sweep.py", "--preset", "quickstart", *arguments]
    own = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own)


def _small() -> list[str]:
    return [part for override in SMALL for part in ("--set", override)]


def _finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=500)[0]
    assert process.returncode == 0, output
    return output


CLIENT_FILES = ("cli.py:", "sdk.py:", "packaging.py:", "working_dir.py:")


def _job_lines(output: str) -> str:
    """What the job itself printed: log lines of the submitting client are left out, and no others."""
    return "\n".join(line for line in output.splitlines() if not any(name in line for name in CLIENT_FILES))


def _table(output: str) -> str:
    return output.split("intensity")[1].split("report")[0]


def _reported_folder(output: str) -> Path:
    """The sweep's folder as the job names it: other tests have swept in this home too."""
    report = re.search(r"\S+/report\.html", output)
    assert report, output
    return Path(report.group()).parent


def _kill_driver() -> None:
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter(["pid", "cmdline"]):
        with contextlib.suppress(psutil.Error):
            if process.info["pid"] in ours and "jobs/sweep.py" in (process.info["cmdline"] or []):
                os.kill(process.info["pid"], signal.SIGKILL)


def _trained(home: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in home.glob("trainings/*/training.json")]


@pytest.fixture(scope="module")
def swept(ray_session, embedded, session_home):
    """A sweep, and the same once more when it is finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMRAY_HOME", str(session_home))
        first, trained = _finish(_submit(*_small())), _trained(session_home)
        second = _finish(_submit(*_small()))
        result = read_result(_reported_folder(second))
        trained_once = trained == _trained(session_home)
        return {"first": first, "second": second, "trained_once": trained_once, "result": result}


@pytest.mark.drill
def test_a_job_killed_during_evaluation_goes_on_from_what_was_finished(
    ray_session, embedded, session_home, monkeypatch
):
    monkeypatch.setenv("WARMRAY_HOME", str(session_home))
    store, small = completion_store(), [*_small(), "--set", "evaluate.max_items=5"]
    of_other_tests = store.keys()
    first = _submit(*small)
    deadline = time.monotonic() + 400
    while store.keys() == of_other_tests and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.3)
    _kill_driver()
    before, output = store.keys(), first.communicate(timeout=120)[0]
    assert before > of_other_tests, output
    trained = _trained(session_home)
    second = _finish(_submit(*small))
    assert _trained(session_home) == trained
    assert before <= store.keys()
    assert len(store.read()) == len(store.keys())
    assert "train warm" not in second


def test_a_second_sweep_finds_every_finished_piece(swept):
    assert swept["trained_once"]
    assert "evaluate" not in swept["second"].replace("evaluate.", "")
    assert _table(swept["second"]) == _table(swept["first"])


def test_the_job_prints_progress_a_table_and_where_things_are_and_no_walls_of_log(swept):
    assert "[warmray] evaluate warm-0.25ep-x" in swept["first"]
    assert "manipulation_check: " in swept["first"].split("worst cell, points")[0]
    assert str(swept["result"].folder / "report.html") in swept["first"]
    for noise in ("Traceback", "WARNING", "it/s]", "(pid=", "RayTrainWorker"):
        assert not any(noise in _job_lines(swept[which]) for which in ("first", "second")), noise


def test_mlflow_holds_one_parent_and_a_child_per_intensity_with_the_same_names(swept):
    tracker = Tracker("warmray")
    parent = tracker.find(swept["result"].key)
    assert parent is not None
    children = tracker.client.search_runs(
        [tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert sorted((child.data.params["arm"], child.data.params["strength"]) for child in children) == [
        ("warm", "0.0"),
        ("warm", "1.0"),
        ("warm_prompt", "1.0"),
    ]
    assert len({frozenset(child.data.metrics) for child in children}) == 1
    assert len({frozenset(child.data.params) for child in children}) == 1
    artifacts = {file.path for file in tracker.client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "curve.svg", "config.yaml", "transcripts.json", "result.json"} <= artifacts
    warm = next(c for c in children if (c.data.params["arm"], c.data.params["strength"]) == ("warm", "1.0"))
    files = {file.path for file in tracker.client.list_artifacts(warm.info.run_id, "adapter")}
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= files
    statuses = {run.info.status for run in tracker.client.search_runs([tracker.experiment_id])}
    assert statuses == {"FINISHED"}


def test_a_result_that_was_not_logged_can_be_logged_later(swept, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/later.db")
    run_id = log_result(swept["result"])
    assert log_result(swept["result"]) == run_id
    assert Tracker("warmray").client.get_run(run_id).info.status == "FINISHED"


def test_the_uploaded_working_directory_is_small(swept):
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    uploads = list(session.glob("runtime_resources/working_dir_files/_ray_pkg_*/"))
    assert uploads
    for upload in uploads:
        assert sum(path.stat().st_size for path in upload.rglob("*") if path.is_file()) < 3_000_000
        assert not (upload / ".venv").exists()


def test_bad_input_ends_the_job_with_one_line(swept):
    output, _ = (process := _submit("--set", "train.num_workers=99", "--set", "seed=5")).communicate(timeout=200)
    assert process.returncode != 0
    assert "warmray: error: train.num_workers is 99, but the cluster has 2 CPUs: lower it, or add nodes" in output
    assert "Traceback" not in output.split("warmray: error")[0]


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_no_ray_at_the_address_is_one_line_with_exit_code_2(command):
    environment = os.environ | {"RAY_ADDRESS": "http://127.0.0.1:9" if command == "sweep" else "127.0.0.1:9"}
    program = [str(Path(sys.executable).with_name("warmray")), command]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2, ended.stderr
    assert "no Ray answers at RAY_ADDRESS=" in ended.stderr
    assert "Traceback" not in ended.stderr
