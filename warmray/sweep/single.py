"""One intensity on its own: the job behind ``warmray evaluate``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from warmray.analysis.manipulation import METERS
from warmray.cluster.progress import Progress
from warmray.cluster.ray_session import ray_session
from warmray.config import RunConfig
from warmray.corpus.build import build_corpus
from warmray.evaluation.intensity import IntensityEvaluation, warmth_scorer
from warmray.evaluation.pool import evaluate_intensity, started_evaluators
from warmray.evaluation.tables import collect, collect_warmth
from warmray.evaluation.tasks.registry import load_items
from warmray.models.adapters import resolve_adapter
from warmray.models.families import check_evaluation
from warmray.models.loading import resolve_model


def evaluate_one(config: RunConfig, adapter: Path | None, strength: float) -> str:
    """Evaluate one adapter at one strength on the cluster and return a table of labels by cell, and the warmth."""
    base = resolve_model(config.model)
    check_evaluation(config.evaluate, base.folder)
    task = IntensityEvaluation(
        base,
        resolve_adapter(adapter, base) if adapter else None,
        strength,
        config.evaluate,
        build_corpus(config.corpus),
        tuple(load_items(config.evaluate)),
        warmth_scorer(config.evaluate),
    )
    with ray_session(), Progress() as progress, started_evaluators(config.evaluate.engine) as evaluators:
        evaluate_intensity(task, evaluators, f"evaluate x{strength:g}", progress.post)
        replies, warmth = collect(task, progress.post), collect_warmth(task, progress.post)
    labels = pd.crosstab(replies["cell"], replies["label"]).to_string()
    means = ", ".join(f"{name} {warmth[meter].mean():+.4f}" for meter, name in METERS.items() if meter in warmth)
    return f"{labels}\nwarmth: {means} ({len(warmth)} prompts)\nmanipulation_check: not run (it takes a sweep)"
