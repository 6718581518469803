"""Submits a job to Ray and follows it, starting a Ray on this machine first when none is named."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import ray
from ray.job_submission import JobStatus, JobSubmissionClient

import warmray
from warmray.cluster.progress import PREFIX, Display
from warmray.cluster.ray_session import LOCAL_RAY, MODEL_VARIABLES, check_reachable, end_in_order_on_sigterm
from warmray.errors import InputError, InterruptedRunError, WarmrayError
from warmray.quiet import QUIET_ENVIRONMENT
from warmray.storage.home import home, make_folder
from warmray.tracking.mlflow_client import OWNER_VARIABLE

SUBMIT_ATTEMPTS = 15
FORWARDED = (
    "WARMRAY_HOME",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    *MODEL_VARIABLES,
)


def submit_and_follow(name: str, argv: list[str], experiment: str) -> int:
    """Run ``jobs/<name>.py`` as a Ray job, print its progress, and return its exit code.

    Runs of the MLflow ``experiment`` that the job leaves open when it is killed are closed.

    Raises:
        InputError: not run from a clone, or nothing answers at ``RAY_ADDRESS``.
        InterruptedRunError: the job was stopped or killed; the same command continues from what is finished.
    """
    root = Path(warmray.__file__).parent.parent
    if not (root / "jobs" / f"{name}.py").exists():
        raise InputError(f"{root} has no jobs/{name}.py: install warmray from a clone with `pip install -e .`")
    if "RAY_ADDRESS" not in os.environ:
        make_folder(home())  # fails at once where nothing can be written; a cluster's folder is not seen from here
    with _cluster() as address:
        return _run(address, root, name, argv, experiment)


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    """Yield the address of a cluster's dashboard; a Ray that was started for this ends with the block."""
    named = os.environ.get("RAY_ADDRESS")
    if named:
        check_reachable(named)
        yield named
        return
    print(f"{PREFIX}starting Ray on this machine", flush=True)
    # Started inside this process: should it be killed, Ray's own reaper takes the rest down with it.
    # Ctrl-C in a terminal reaches every process of the group. Children inherit an ignored signal; were Ray's dashboard
    # to die of it, the job could no longer be stopped in order.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        context = ray.init(**LOCAL_RAY)
    finally:
        signal.signal(signal.SIGINT, handler)
    end_in_order_on_sigterm()
    try:
        yield f"http://{context.dashboard_url}"
    finally:
        ray.shutdown()


def _run(address: str, root: Path, name: str, argv: list[str], experiment: str) -> int:
    for chatty in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no Ray dashboard answers at RAY_ADDRESS={address}: jobs are submitted to an address such as "
            "http://127.0.0.1:8265; start it there, or unset RAY_ADDRESS"
        ) from error
    owner = f"warmray-{uuid.uuid4().hex[:12]}"
    variables = {key: os.environ[key] for key in FORWARDED if key in os.environ}
    variables |= QUIET_ENVIRONMENT | {OWNER_VARIABLE: owner}
    if "RAY_ADDRESS" not in os.environ:
        variables["WARMRAY_HOME"] = str(home())
    entrypoint = " ".join([_python(), f"jobs/{name}.py", *(_quoted(argument) for argument in argv)])
    _submit(client, entrypoint, owner, {"working_dir": str(root), "env_vars": variables})
    print(f"{PREFIX}submitted as {owner} to {address}", flush=True)
    try:
        asyncio.run(_follow(client, owner))
        return _exit_code(client, owner)
    except KeyboardInterrupt:
        print(f"\n{PREFIX}stopping; finished work is kept", flush=True)
        _stop(client, owner)
        raise
    finally:
        _close_runs(experiment, owner)


def _submit(client: JobSubmissionClient, entrypoint: str, owner: str, runtime_env: dict[str, Any]) -> None:
    """Submit a job; a Ray that has just started may need some seconds until an agent takes jobs.

    Raises:
        InputError: Ray refuses it.
    """
    for attempts_left in reversed(range(SUBMIT_ATTEMPTS)):
        try:
            client.submit_job(entrypoint=entrypoint, submission_id=owner, runtime_env=runtime_env)
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or not attempts_left:
                reason = shorten(str(error), 120)
                raise InputError(f"Ray refused the job ({reason}): see its dashboard, or unset RAY_ADDRESS") from error
        time.sleep(2)


def _python() -> str:
    # On a cluster of its own the nodes' python runs the job; on this machine it is this one, whatever the PATH says.
    return "python" if os.environ.get("RAY_ADDRESS") else _quoted(sys.executable)


def _quoted(argument: str) -> str:
    return shlex.quote(argument)


async def _follow(client: JobSubmissionClient, job_id: str) -> None:
    """Show the job's lines as they come; on a terminal, those that say progress become bars."""
    with Display() as display:
        async for chunk in client.tail_job_logs(job_id):
            for line in chunk.splitlines():
                if not _is_noise(line):
                    display.follow(line)


def _is_noise(line: str) -> bool:
    # The last one is Ray's where there is no network at all, which is how an air-gapped machine should be.
    noise = ("job_manager.py", "Runtime env is setting up", "Running entrypoint for job", "network_util.cc")
    return any(mark in line for mark in noise)


def _exit_code(client: JobSubmissionClient, job_id: str) -> int:
    info = client.get_job_info(job_id)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    code = info.driver_exit_code
    if code is None or code < 0 or code > 127:
        raise InterruptedRunError("the job was killed; the same command continues from what is finished")
    if code == 1:  # Python's own: a sweep has no such exit code
        raise WarmrayError(f"the job's environment is broken, Python ended before warmray started: {info.message}")
    return code


def _stop(client: JobSubmissionClient, job_id: str) -> None:
    with contextlib.suppress(RuntimeError, ConnectionError):
        client.stop_job(job_id)
        for _ in range(20):
            if client.get_job_status(job_id) in (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED):
                return
            time.sleep(0.5)


def _close_runs(experiment: str, owner: str) -> None:
    """Close the MLflow runs that a killed job left RUNNING."""
    from warmray.tracking.mlflow_client import Tracker

    with contextlib.suppress(Exception):
        Tracker(experiment).close_runs_of(owner)
