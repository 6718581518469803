"""Everything that touches MLflow: one run per training, and per sweep one parent run with a child per intensity."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from warmray.errors import InputError
from warmray.quiet import quiet_libraries
from warmray.storage.home import home, make_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

KEY_TAG = "warmray.key"
RECOMMENDED_ALIAS = "recommended"
PARENT_TAG = "mlflow.parentRunId"
OWNER_TAG = "warmray.owner"
OWNER_VARIABLE = "WARMRAY_OWNER"
"""Environment variable that names who works on a run, so that a killed job's runs can be closed, and only those."""


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, or a SQLite file at an absolute path below the warmray home.

    Ray changes the working directory of jobs and workers, which would scatter a relative store.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{make_folder(home() / 'mlflow') / 'mlflow.db'}"


def artifact_folder() -> Path:
    """Return where artifacts lie when the store is the local SQLite file."""
    return home() / "mlflow" / "artifacts"


def _owner() -> str:
    return os.environ.get(OWNER_VARIABLE) or f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class RunRecord:
    """What is logged of one finished run; everything is read from the result folder."""

    name: str
    key: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Sequence[Path]
    """Logged at the root of the artifacts."""
    folders: Mapping[str, Path]
    """Artifact folder to local folder."""
    tables: Mapping[str, Mapping[str, list[Any]]]
    """Artifact file name to columns: shown as tables by the UI."""


@dataclass(frozen=True)
class ModelRecord:
    """An adapter that is registered as a version of a model."""

    name: str
    adapter: Path
    card: str
    """Markdown: what it is, what it was measured to do, what it may not be used for."""
    tags: Mapping[str, str]


class Tracker:
    """A thin client around one experiment.

    Raises from any call are MLflow's own; callers decide whether a missing server may stop them.
    """

    def __init__(self, experiment: str, uri: str | None = None) -> None:
        """Connect, creating the experiment on first use."""
        # A server that is not there must be told soon: by default MLflow tries for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.uri = uri or tracking_uri()
        self.client: MlflowClient = MlflowClient(tracking_uri=self.uri)
        self.experiment_id = self._experiment(experiment)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found: Experiment | None = self.client.get_experiment_by_name(name)
        if found is None:
            location = f"file://{make_folder(artifact_folder())}" if self.uri.startswith("sqlite") else None
            try:
                return self.client.create_experiment(name, artifact_location=location)
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise InputError(f"the MLflow experiment {name!r} is deleted: restore it, or set tracking.experiment")
        return found.experiment_id

    def find(self, key: str) -> Run | None:
        """Return the top-level run that was logged under ``key``, if there is one."""
        runs = self.client.search_runs([self.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return runs[0] if runs else None

    def open_training(self, key: str, name: str, params: Mapping[str, Any]) -> str:
        """Return the id of the RUNNING run of a training, continuing the one that an earlier attempt began."""
        found = self.find(key)
        if found is not None:
            self.client.set_tag(found.info.run_id, OWNER_TAG, _owner())
            self.client.update_run(found.info.run_id, status="RUNNING")
            return found.info.run_id
        tags = {KEY_TAG: key, OWNER_TAG: _owner(), "warmray.kind": "training"}
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        self._log_params(run.info.run_id, params)
        return run.info.run_id

    def log_step(self, run_id: str, metrics: Mapping[str, float], step: int, timestamp_ms: int | None = None) -> None:
        """Log the metrics of one step in one request."""
        from mlflow.entities import Metric

        when = timestamp_ms or int(time.time() * 1000)
        self.client.log_batch(
            run_id, metrics=[Metric(name, float(value), when, step) for name, value in metrics.items()]
        )

    def log_document(self, run_id: str, document: dict[str, Any], name: str) -> None:
        """Log a tree of values as a file, which the UI shows."""
        self.client.log_dict(run_id, document, name)

    def close(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    def log_family(self, parent: RunRecord, children: list[RunRecord], model: ModelRecord | None = None) -> str:
        """Log a parent run with its children, once: the same key is not logged a second time. Return the parent's id.

        A parent that an interrupted attempt left unfinished is deleted with its children and logged anew. Children
        that come first are listed first in the UI, which sorts by the time of creation. The model, if there is one, is
        registered as a version with the alias ``recommended``.
        """
        found = self.find(parent.key)
        if found is not None:
            if found.info.status == "FINISHED":
                return found.info.run_id
            self._delete_family(found.info.run_id)
        now = int(time.time() * 1000)
        parent_id = self._log(parent, None, now)
        try:
            for place, child in enumerate(children):
                self.close(self._log(child, parent_id, now - place - 1), "FINISHED")
            if model is not None:
                self._register(model, parent_id)
        except BaseException:
            self.close(parent_id, "FAILED")
            raise
        self.close(parent_id, "FINISHED")
        return parent_id

    def _delete_family(self, parent_id: str) -> None:
        children = self.client.search_runs([self.experiment_id], filter_string=f"tags.`{PARENT_TAG}` = '{parent_id}'")
        for run_id in [*(child.info.run_id for child in children), parent_id]:
            self.client.set_terminated(run_id, "KILLED")
            self.client.delete_run(run_id)

    def close_runs_of(self, owner: str) -> None:
        """Mark the runs that ``owner`` left RUNNING as KILLED: it is gone."""
        own = f"attributes.status = 'RUNNING' and tags.`{OWNER_TAG}` = '{owner}'"
        for run in self.client.search_runs([self.experiment_id], filter_string=own):
            self.close(run.info.run_id, "KILLED")

    def _register(self, model: ModelRecord, run_id: str) -> None:
        import mlflow.pyfunc
        from mlflow.exceptions import MlflowException

        code = Path(__file__).with_name("served_adapter.py")
        needed = [f"{name}=={version(name)}" for name in ("torch", "transformers", "peft")]
        quiet_libraries()
        with TemporaryDirectory() as folder:
            place = Path(folder) / "model"
            mlflow.pyfunc.save_model(
                place,
                python_model=str(code),
                artifacts={"adapter": str(model.adapter)},
                pip_requirements=needed,
            )
            self.client.log_artifacts(run_id, str(place), "model")
        with contextlib.suppress(MlflowException):  # it is there already
            self.client.create_registered_model(model.name)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        made = self.client.create_model_version(
            model.name, source, run_id=run_id, tags=dict(model.tags), description=model.card
        )
        self.client.set_registered_model_alias(model.name, RECOMMENDED_ALIAS, made.version)

    def _log(self, record: RunRecord, parent_id: str | None, start_time: int) -> str:
        tags = {**record.tags, KEY_TAG: record.key, OWNER_TAG: _owner()} | (
            {PARENT_TAG: parent_id} if parent_id else {}
        )
        run_id = self.client.create_run(
            self.experiment_id, start_time=start_time, run_name=record.name, tags=tags
        ).info.run_id
        try:
            self._log_params(run_id, record.params)
            self.log_step(run_id, record.metrics, 0)
            for path in record.files:
                self.client.log_artifact(run_id, str(path))
            for place, path in record.folders.items():
                self.client.log_artifacts(run_id, str(path), place)
            for name, columns in record.tables.items():
                self.client.log_table(run_id, dict(columns), name)
        except BaseException:
            self.close(run_id, "FAILED")
            raise
        return run_id

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])


class TrainingLog:
    """Logs a training from its worker into one run; neither a slow server nor one that goes away holds it up."""

    def __init__(self, experiment: str, uri: str, run_id: str) -> None:
        """Take what the driver opened."""
        self.run_id = run_id
        self._tracker: Tracker | None = Tracker(experiment, uri)
        self._sender = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.shutdown(wait=True)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one step soon, without waiting."""
        self._sender.submit(self._send, metrics, step, int(time.time() * 1000))

    def _send(self, metrics: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Send one step, or give up for good when the server is gone."""
        if self._tracker is not None:
            try:
                self._tracker.log_step(self.run_id, metrics, step, timestamp_ms)
            except Exception:
                self._tracker = None
