"""The folder that a sweep leaves behind: tables, figures, report, adapters - all that MLflow is told comes from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from warmray.analysis.estimates import Estimates, Question, Tables, estimate
from warmray.analysis.plots import FIGURES, draw_figures
from warmray.analysis.recommend import Recommendation, recommend
from warmray.analysis.report import Facts, transcripts, write_report
from warmray.config import RunConfig
from warmray.errors import InputError, storage_error
from warmray.evaluation.cells import deciding_cells
from warmray.home import only_one_at, write_whole
from warmray.models.adapters import Adapter, save_at_strength
from warmray.models.loading import BaseCheckpoint
from warmray.sweep.intensities import Intensity
from warmray.tracking import RunRecord, Tracker

MARKER = "result.json"
RECOMMENDED = "recommended-adapter"
ESTIMATES = tuple(field.name for field in fields(Estimates))
"""The tables of the analysis; each is a CSV file of its name."""


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep as read from its folder."""

    folder: Path
    config: RunConfig
    key: str
    estimates: Estimates
    choice: Recommendation


def write_result(
    folder: Path,
    key: str,
    config: RunConfig,
    base: BaseCheckpoint,
    tables: Tables,
    adapters: dict[Intensity, Adapter],
    made_with: dict[str, str],
    stage_seconds: dict[str, float],
) -> None:
    """Analyse the tables and write everything below ``folder``; the marker comes last.

    Raises:
        InputError: the folder cannot be written.
        InterruptedRunError: the disk is full.
    """
    question = question_of(config)
    estimates = estimate(tables, question)
    choice = recommend(estimates, question)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("replies", "warmth", "anchors"):
            getattr(tables, name).to_parquet(folder / f"{name}.parquet", index=False)
        for name in ESTIMATES:
            getattr(estimates, name).to_csv(folder / f"{name}.csv", index=False)
        (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(), sort_keys=False), encoding="utf-8")
        draw_figures(estimates, choice.strength, question.budget, folder)
        facts = Facts(f"What warmth costs: {config.name}", config.sweep.error_budget_points, made_with)
        write_report(folder, estimates, tables, choice, facts)
        for intensity, adapter in adapters.items():
            if intensity.strength != 0 and not adapter.is_whole_model:  # a whole model is written only if it is chosen
                save_at_strength(adapter, base, intensity.strength, folder / "adapters" / intensity.name)
            if (intensity.arm, intensity.dose, intensity.strength) == (choice.arm, choice.dose, choice.strength):
                save_at_strength(adapter, base, intensity.strength, folder / RECOMMENDED)
        record = {"key": key, "recommendation": asdict(choice), "made_with": made_with, "stage_seconds": stage_seconds}
        write_whole(folder / MARKER, json.dumps(record, indent=2))
    except OSError as error:
        raise storage_error(error, folder) from error


def question_of(config: RunConfig) -> Question:
    """Return what a sweep is to decide."""
    budget = config.sweep.error_budget_points / 100
    return Question(budget, deciding_cells(config), config.sweep.bootstrap_resamples, config.seed)


def read_result(folder: Path) -> SweepResult:
    """Read a finished sweep.

    Raises:
        InputError: the folder holds no finished result.
    """
    if not (folder / MARKER).is_file():
        raise InputError(f"{folder} holds no {MARKER}: give the folder that `warmray sweep` named at its end")
    missing = [name for name in ESTIMATES if not (folder / f"{name}.csv").is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(f'{name}.csv' for name in missing)}: an earlier version of warmray made it; "
            "run the sweep again (finished trainings are found)"
        )
    record = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    config = RunConfig.model_validate(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ESTIMATES}
    return SweepResult(folder, config, record["key"], Estimates(**tables), Recommendation(**record["recommendation"]))


def log_result(result: SweepResult) -> str:
    """Log a finished sweep to MLflow: a parent run, and a child per intensity. Return the parent's run id.

    Raises whatever MLflow raises when the server cannot be reached; nothing of the result is touched.
    """
    record = json.loads((result.folder / MARKER).read_text(encoding="utf-8"))
    replies = pd.read_parquet(result.folder / "replies.parquet")
    shared = {f"made_with.{name}": value for name, value in record["made_with"].items()}
    children = [_child(result, row, replies, shared) for row in result.estimates.intensities.to_dict("records")]
    parent = _parent(result, record, replies, shared)
    with only_one_at(result.folder):
        return Tracker(result.config.tracking.experiment).log_family(parent, children)


def _parent(result: SweepResult, record: dict[str, Any], replies: pd.DataFrame, shared: dict[str, str]) -> RunRecord:
    pairs = [asdict(transcript) for transcript in transcripts(replies, most=None)]
    names = (
        "config.yaml",
        "result.json",
        *(f"{name}.csv" for name in ESTIMATES),
        *(f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")),
        "report.html",
    )
    recommended = result.folder / RECOMMENDED  # a whole model is too large to be copied to MLflow
    choice = {name: value for name, value in asdict(result.choice).items() if name != "sentence" and value is not None}
    return RunRecord(
        name=result.config.name,
        key=result.key,
        params=shared | {f"recommended_{name}": value for name, value in choice.items()},
        metrics={f"seconds_{stage}": seconds for stage, seconds in record["stage_seconds"].items()},
        tags={
            "warmray.kind": "sweep",
            "warmray.recommendation": result.choice.sentence,
            "warmray.manipulation_check": result.estimates.manipulation_check,
            "mlflow.note.content": result.choice.sentence,
        },
        files=[result.folder / name for name in names],
        folders={RECOMMENDED: recommended} if (recommended / "adapter_config.json").exists() else {},
        tables={"transcripts.json": {name: [pair[name] for pair in pairs] for name in (pairs[0] if pairs else {})}},
    )


def _child(result: SweepResult, row: Mapping[str, Any], replies: pd.DataFrame, shared: dict[str, str]) -> RunRecord:
    intensity = Intensity(row["arm"], row["dose"], row["strength"])
    own = replies[
        (replies["arm"] == row["arm"]) & (replies["dose"] == row["dose"]) & (replies["strength"] == row["strength"])
    ]
    shown = own[["item", "dataset", "cell", "prompt", "reply", "label", "agrees_with_wrong", "decided_by", "evidence"]]
    adapter = result.folder / "adapters" / intensity.name
    return RunRecord(
        name=intensity.name,
        key=f"{result.key}/{intensity.name}",
        params={"arm": intensity.arm, "dose": intensity.dose, "strength": intensity.strength} | shared,
        metrics={metric_name(name): _finite(value) for name, value in row.items() if _is_metric(name, value)},
        tags={"warmray.kind": "intensity"},
        files=[result.folder / "config.yaml"],
        folders={"adapter": adapter} if adapter.exists() else {},
        tables={"transcripts.json": shown.astype(str).to_dict("list")},
    )


def metric_name(column: str) -> str:
    """Return a column's name in MLflow, which takes no ``+``."""
    return column.replace("+", "_")


def _is_metric(name: str, value: Any) -> bool:
    return name not in ("arm", "dose", "strength", "dominated_by") and isinstance(value, int | float)


def _finite(value: float) -> float:
    # Stores cut infinity down to the largest float, which no chart survives; -1 stands for "no number would do".
    return -1.0 if math.isinf(value) else float(value)
