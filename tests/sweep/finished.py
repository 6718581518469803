"""A finished sweep's folder made from tables with a planted effect, for tests of what reads one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from warmray.analysis.estimates import Tables, estimate
from warmray.analysis.recommend import recommend
from warmray.config import load_config
from warmray.sweep.result import ESTIMATES, MARKER, SweepResult, decision_rule_of, read_result


def finished(folder: Path, tables: Tables, *overrides: str) -> SweepResult:
    """Write what the gate, the analyses and MLflow read of a sweep."""
    config = load_config("quickstart", None, ["sweep.bootstrap_resamples=200", "gate.cells=[sad+wrong]", *overrides])
    estimates = estimate(tables, decision_rule_of(config))
    choice = recommend(estimates, decision_rule_of(config))
    folder.mkdir(parents=True)
    for name in ("replies", "warmth", "anchors"):
        getattr(tables, name).to_parquet(folder / f"{name}.parquet", index=False)
    for name in ESTIMATES:
        getattr(estimates, name).to_csv(folder / f"{name}.csv", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(), sort_keys=False))
    record = {"key": "abc", "recommendation": asdict(choice), "made_with": {}, "costs": {}}
    (folder / MARKER).write_text(json.dumps(record))
    return read_result(folder)
