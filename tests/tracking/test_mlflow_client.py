import pytest

from warmray.tracking.mlflow_client import OWNER_VARIABLE, RunRecord, Tracker


def _record(name: str, metrics=None, **changes) -> RunRecord:
    facts = {
        "params": {"strength": 1},
        "metrics": metrics or {"error": 0.5},
        "tags": {},
        "files": [],
        "folders": {},
        "tables": {},
    }
    return RunRecord(name=name, key=f"key-{name}", **(facts | changes))


@pytest.fixture
def tracker(request):
    return Tracker(request.node.name)  # one experiment per test


def _statuses(tracker):
    return sorted(run.info.status for run in tracker.client.search_runs([tracker.experiment_id]))


def test_a_family_is_one_parent_with_finished_children(tracker, tmp_path):
    (tmp_path / "report.html").write_text("<p>hello")
    table = {"transcripts.json": {"prompt": ["a"], "reply": ["b"]}}
    parent = tracker.log_family(
        _record("sweep", files=[tmp_path / "report.html"]), [_record("one"), _record("two", tables=table)]
    )
    children = tracker.client.search_runs([tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert sorted(child.info.run_name for child in children) == ["one", "two"]
    assert [file.path for file in tracker.client.list_artifacts(parent)] == ["report.html"]
    assert set(_statuses(tracker)) == {"FINISHED"}


def test_logging_the_same_result_twice_changes_nothing(tracker):
    first = tracker.log_family(_record("sweep"), [_record("one")])
    assert tracker.log_family(_record("sweep"), [_record("one")]) == first
    assert len(_statuses(tracker)) == 2


def test_a_failure_leaves_no_run_running_and_the_next_attempt_logs_everything(tracker, tmp_path):
    broken = _record("two", files=[tmp_path / "missing"])
    with pytest.raises(Exception, match="missing"):
        tracker.log_family(_record("sweep"), [_record("one"), broken])
    assert "RUNNING" not in _statuses(tracker)
    tracker.log_family(_record("sweep"), [_record("one"), _record("two")])
    assert _statuses(tracker) == ["FINISHED"] * 3


def test_only_the_runs_of_the_killed_job_are_closed(tracker, monkeypatch):
    monkeypatch.setenv(OWNER_VARIABLE, "mine")
    mine = tracker.open_training("a", "train", {})
    monkeypatch.setenv(OWNER_VARIABLE, "theirs")
    theirs = tracker.open_training("b", "train", {})
    tracker.close_runs_of("mine")
    assert tracker.client.get_run(mine).info.status == "KILLED"
    assert tracker.client.get_run(theirs).info.status == "RUNNING"


def test_a_resumed_training_continues_its_run(tracker):
    first = tracker.open_training("a", "train", {"lr": 1})
    tracker.close(first, "FAILED")
    assert tracker.open_training("a", "train", {"lr": 1}) == first
    assert _statuses(tracker) == ["RUNNING"]
