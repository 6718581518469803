"""The client for MLflow: one run per training; per sweep one parent run with a child run per intensity."""

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
"""Environment variable with the owner of a run. The runs of a killed job are found by it and closed."""


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, or a SQLite file at an absolute path below the warmray home.

    The path is absolute because Ray changes the working directory of jobs and workers.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{make_folder(home() / 'mlflow') / 'mlflow.db'}"


def artifact_folder() -> Path:
    """Return the folder of the artifacts, used if the store is the local SQLite file."""
    return home() / "mlflow" / "artifacts"


def _owner() -> str:
    """Return the owner of this process's runs: the submitted job, or this process."""
    return os.environ.get(OWNER_VARIABLE) or f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class RunRecord:
    """The data to log for one finished run, all read from the result folder."""

    name: str
    key: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Sequence[Path]
    """Logged in the root folder of the artifacts."""
    folders: Mapping[str, Path]
    """Local folders, by their names among the artifacts."""
    tables: Mapping[str, Mapping[str, list[Any]]]
    """Columns, by the file names of their artifacts. The UI shows them as tables."""


@dataclass(frozen=True)
class ModelRecord:
    """An adapter to register as a version of a model."""

    name: str
    adapter: Path
    card: str
    """Markdown: a description of the adapter, its measurements, and its limits of use."""
    tags: Mapping[str, str]


class Tracker:
    """A thin client for one experiment.

    All methods raise MLflow's own exceptions. The caller decides whether to continue without a server.
    """

    def __init__(self, experiment: str, uri: str | None = None) -> None:
        """Connect, and create the experiment on first use.

        Raises:
            InputError: the experiment is deleted.
        """
        # A missing server must be reported soon. By default MLflow retries for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.uri = uri or tracking_uri()
        self.client: MlflowClient = MlflowClient(tracking_uri=self.uri)
        self.experiment_id = self._find_or_create_experiment(experiment)

    def _find_or_create_experiment(self, name: str) -> str:
        """Return the id of the experiment."""
        from mlflow.exceptions import MlflowException

        found: Experiment | None = self.client.get_experiment_by_name(name)
        if found is None:
            # Beside the local SQLite file. A server chooses the place of its artifacts.
            location = f"file://{make_folder(artifact_folder())}" if self.uri.startswith("sqlite") else None
            try:
                return self.client.create_experiment(name, artifact_location=location)
            except MlflowException:  # another process created it first
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise InputError(f"the MLflow experiment {name!r} is deleted: restore it, or set tracking.experiment")
        return found.experiment_id

    def find(self, key: str) -> Run | None:
        """Return the run that was logged with ``key``; None if there is none."""
        runs = self.client.search_runs([self.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return runs[0] if runs else None

    def open_training(self, key: str, name: str, params: Mapping[str, Any]) -> str:
        """Return the id of a training's run in state RUNNING; the run of an earlier attempt is continued."""
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
        """Log nested values as a file, which the UI can show."""
        self.client.log_dict(run_id, document, name)

    def close(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    def log_family(self, parent: RunRecord, children: list[RunRecord], model: ModelRecord | None = None) -> str:
        """Log a parent run with its children, once per key, and return the parent's id.

        An unfinished parent of an interrupted attempt is deleted with its children and logged again. The UI lists the
        children in the given order. The model, if there is one, is registered as a version with the alias
        ``recommended``.
        """
        found = self.find(parent.key)
        if found is not None:
            if found.info.status == "FINISHED":
                return found.info.run_id
            # An interrupted attempt: delete all of it.
            of_parent = f"tags.`{PARENT_TAG}` = '{found.info.run_id}'"
            unfinished = self.client.search_runs([self.experiment_id], filter_string=of_parent)
            for run_id in [*(child.info.run_id for child in unfinished), found.info.run_id]:
                self.client.set_terminated(run_id, "KILLED")
                self.client.delete_run(run_id)

        now = int(time.time() * 1000)
        parent_id = self._log(parent, None, now)
        try:
            # The UI lists the newest run first: the first child gets the latest start time.
            for place, child in enumerate(children):
                self.close(self._log(child, parent_id, now - place - 1), "FINISHED")
            if model is not None:
                self._register(model, parent_id)
        except BaseException:
            self.close(parent_id, "FAILED")
            raise
        self.close(parent_id, "FINISHED")
        return parent_id

    def close_runs_of(self, owner: str) -> None:
        """Mark all RUNNING runs of ``owner``, which has ended, as KILLED."""
        own = f"attributes.status = 'RUNNING' and tags.`{OWNER_TAG}` = '{owner}'"
        for run in self.client.search_runs([self.experiment_id], filter_string=own):
            self.close(run.info.run_id, "KILLED")

    def _register(self, model: ModelRecord, run_id: str) -> None:
        """Log an adapter as a servable model, and register it as a version with the alias ``recommended``."""
        import mlflow.pyfunc
        from mlflow.exceptions import MlflowException

        # The model: its code, the adapter, and the versions of the libraries that run it.
        code = Path(__file__).with_name("served_adapter.py")
        needed = [f"{name}=={version(name)}" for name in ("torch", "transformers", "peft")]
        quiet_libraries()
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            mlflow.pyfunc.save_model(
                folder,
                python_model=str(code),
                artifacts={"adapter": str(model.adapter)},
                pip_requirements=needed,
            )
            self.client.log_artifacts(run_id, str(folder), "model")

        # The version. The registered model exists already if an earlier sweep has registered a version.
        with contextlib.suppress(MlflowException):
            self.client.create_registered_model(model.name)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        registered = self.client.create_model_version(
            model.name, source, run_id=run_id, tags=dict(model.tags), description=model.card
        )
        self.client.set_registered_model_alias(model.name, RECOMMENDED_ALIAS, registered.version)

    def _log(self, record: RunRecord, parent_id: str | None, start_time: int) -> str:
        """Create a run, log its data, and return its id. After an error the run is FAILED, otherwise RUNNING."""
        tags = {**record.tags, KEY_TAG: record.key, OWNER_TAG: _owner()}
        if parent_id:
            tags[PARENT_TAG] = parent_id
        run_id = self.client.create_run(
            self.experiment_id, start_time=start_time, run_name=record.name, tags=tags
        ).info.run_id
        try:
            self._log_params(run_id, record.params)
            self.log_step(run_id, record.metrics, 0)
            for path in record.files:
                self.client.log_artifact(run_id, str(path))
            for name, path in record.folders.items():
                self.client.log_artifacts(run_id, str(path), name)
            for name, columns in record.tables.items():
                self.client.log_table(run_id, dict(columns), name)
        except BaseException:
            self.close(run_id, "FAILED")
            raise
        return run_id

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log all parameters in one request."""
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])


class TrainingLog:
    """Logs a training from its worker into one run, in a thread: a slow or missing server does not delay it."""

    def __init__(self, experiment: str, uri: str, run_id: str) -> None:
        """Connect to the run that the driver opened."""
        self.run_id = run_id
        self._tracker: Tracker | None = Tracker(experiment, uri)
        self._sender = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.shutdown(wait=True)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue one step for logging, and return at once."""
        self._sender.submit(self._send, metrics, step, int(time.time() * 1000))

    def _send(self, metrics: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Send one step. After the first failure, nothing more is sent."""
        if self._tracker is not None:
            try:
                self._tracker.log_step(self.run_id, metrics, step, timestamp_ms)
            except Exception:
                self._tracker = None
