"""The result folder of a sweep: tables, figures, report and adapters; MLflow is filled from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd
import yaml

from warmray.analysis.calibration import Calibration
from warmray.analysis.estimates import DecisionRule, Estimates, Tables, estimate
from warmray.analysis.plots import draw_figures
from warmray.analysis.recommend import Recommendation, recommend
from warmray.analysis.report import Facts, write_report
from warmray.config import RunConfig
from warmray.errors import InputError, storage_error
from warmray.models.adapters import Adapter, save_at_strength
from warmray.models.loading import BaseCheckpoint
from warmray.storage.home import write_whole
from warmray.sweep.intensities import Intensity

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
    costs: dict[str, float],
    calibration: Calibration | None = None,
) -> None:
    """Analyse the tables and write everything below ``folder``; the marker comes last.

    Raises:
        InputError: the folder cannot be written.
        InterruptedRunError: the disk is full.
    """
    rule = replace(decision_rule_of(config), calibration=calibration)
    estimates = estimate(tables, rule)
    choice = recommend(estimates, rule)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("replies", "warmth", "anchors"):
            getattr(tables, name).to_parquet(folder / f"{name}.parquet", index=False)
        for name in ESTIMATES:
            getattr(estimates, name).to_csv(folder / f"{name}.csv", index=False)
        (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(), sort_keys=False), encoding="utf-8")
        draw_figures(estimates, choice.strength, rule.budget, folder)
        facts = Facts(f"What warmth costs: {config.name}", config.sweep.budget_points, made_with, costs)
        write_report(folder, estimates, tables, choice, facts)
        for intensity, adapter in adapters.items():
            if intensity.strength != 0 and not adapter.is_whole_model:  # a whole model is written only if it is chosen
                save_at_strength(adapter, base, intensity.strength, folder / "adapters" / intensity.name)
            if (intensity.arm, intensity.dose, intensity.strength) == (choice.arm, choice.dose, choice.strength):
                save_at_strength(adapter, base, intensity.strength, folder / RECOMMENDED)
        record = {"key": key, "recommendation": asdict(choice), "made_with": made_with, "costs": costs}
        write_whole(folder / MARKER, json.dumps(record, indent=2))
    except OSError as error:
        raise storage_error(error, folder) from error


def decision_rule_of(config: RunConfig) -> DecisionRule:
    """Return what a sweep is to decide."""
    budget = config.sweep.budget_points / 100
    return DecisionRule(budget, config.deciding_cells(), config.sweep.bootstrap_resamples, config.seed)


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
