"""Our training as a contender, as the sweep runs it: Ray Train, DeepSpeed, MLflow, progress and checkpoints."""

from __future__ import annotations

import os

from jobs.bench.bench_result import Run, Step
from jobs.bench.contender_task import BenchTask, counted, largest_b, read_bench_workload
from jobs.bench.machine import Cores, pin, pinned_below
from warmray.cluster.progress import Progress
from warmray.cluster.ray_session import ray_session
from warmray.corpus.build import build_corpus
from warmray.tracking.mlflow_client import Tracker
from warmray.training.trainer import train_arm

TRAINING_PROCESS = "ray::RayTrainWorker"


def run_ours(task: BenchTask) -> Run:
    """Train with one Ray Train worker and log every step to MLflow.

    The times are those at which MLflow's store received each step: the time between two steps includes the logging.
    """
    config, workload, cores = task.config, read_bench_workload(task), Cores.for_threads(task.threads)

    # Pin this process first: Ray's own processes inherit its cores and leave the others to the training.
    pin(os.getpid(), cores.others)
    with ray_session(), pinned_below(TRAINING_PROCESS, cores.training), Progress() as progress:
        trained = train_arm(config, config.train.arms[0], workload.base, build_corpus(config.corpus), progress.post)
    if trained.run_id is None:
        raise RuntimeError("MLflow did not log the training, and the step times come from MLflow")

    history = Tracker(config.tracking.experiment).client.get_metric_history(trained.run_id, "loss")
    logged = sorted(history, key=lambda metric: metric.step)
    steps = tuple(
        Step(metric.timestamp / 1000, *counted(batch), metric.value)
        for metric, batch in zip(logged, workload.batches, strict=True)
    )
    (adapter,) = trained.adapters.values()
    return Run(steps, largest_b(adapter.folder))
