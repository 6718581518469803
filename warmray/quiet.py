"""Silences the output of libraries, which would hide warmray's own progress messages."""

from __future__ import annotations

import logging
import os
import warnings

QUIET_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TQDM_DISABLE": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "PYTHONWARNINGS": "ignore",
}
"""Every Ray worker gets these too. Three of them stop usage reports, which an air-gapped cluster must not send."""


def quiet_environment() -> None:
    """Set the variables that are not set yet. Call this before other imports: some libraries read them only once."""
    for key, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def quiet_libraries() -> None:
    """Turn off progress bars and warnings of the libraries in this process."""
    quiet_environment()
    warnings.filterwarnings("ignore")
    for name in (
        "DeepSpeed",
        "alembic",
        "mlflow",
        "ray.train",
        "ray.tune",
        "torch.distributed",
        "transformers",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It prints the traceback of every exception that it raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # without it, DeepSpeed detects the CPU and warns
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
