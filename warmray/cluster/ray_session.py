"""Connects to Ray, or starts one on this machine."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import ray
from ray._private.parameter import RayParams

from warmray.errors import InputError
from warmray.quiet import QUIET_ENVIRONMENT
from warmray.storage.home import home

# Jobs reach a node through a port that ray.init has no argument for. With Ray's fixed one, a second Ray on this machine
# would accept no jobs. 0 is any free port.
RayParams.__init__ = functools.partialmethod(RayParams.__init__, dashboard_agent_listen_port=0)

MODEL_VARIABLES = ("WARMRAY_MODEL_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN")
"""Where models come from: workers get what the driver has. Credentials of object stores are the nodes' own."""

LOCAL_RAY: dict[str, Any] = {
    "address": "local",
    "include_dashboard": True,  # without it Ray Train never frees the workers of a stopped run
    "dashboard_host": "127.0.0.1",
    "_node_ip_address": "127.0.0.1",
    "log_to_driver": False,
    "logging_level": "ERROR",
}
"""How warmray starts a Ray of its own: on loopback, and silent."""


@contextlib.contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the Ray that ``RAY_ADDRESS`` names, or start one on this machine, and leave it at the end.

    Raises:
        InputError: nothing answers at ``RAY_ADDRESS``.
    """
    address = os.environ.get("RAY_ADDRESS")
    if address:
        check_reachable(address)
    settings = LOCAL_RAY | ({"address": address} if address else {})
    if address:
        settings = {key: settings[key] for key in ("address", "log_to_driver", "logging_level")}
    try:
        ray.init(**settings, runtime_env={"env_vars": _worker_environment()})
    except ConnectionError as error:
        raise InputError(f"no Ray answers at RAY_ADDRESS={address}: start it, or unset RAY_ADDRESS") from error
    end_in_order_on_sigterm()
    try:
        yield
    finally:
        ray.shutdown()


def end_in_order_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does; ``ray.init`` has set a handler of its own that does not."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def check_reachable(address: str) -> None:
    """Try the host and port that an address such as ``10.0.0.1:6379`` names; Ray itself would try for minutes.

    Raises:
        InputError: nothing listens there.
    """
    host, colon, port = address.rsplit("://")[-1].partition("/")[0].rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", say: Ray knows how to find it
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"no Ray answers at RAY_ADDRESS={address}: start it, or unset RAY_ADDRESS") from error


def _worker_environment() -> dict[str, str]:
    """Return the variables that workers need, less those that the job's runtime environment sets: Ray refuses both."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    already_set = (job.get("runtime_env") or {}).get("env_vars") or {}
    wanted = QUIET_ENVIRONMENT | {"WARMRAY_HOME": str(home())}
    wanted |= {key: os.environ[key] for key in MODEL_VARIABLES if key in os.environ}
    return {key: value for key, value in wanted.items() if key not in already_set}
