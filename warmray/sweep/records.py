"""What MLflow records of a finished sweep: a parent run, a child run per intensity, the recommended adapter's card."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from warmray.analysis.plots import FIGURES
from warmray.analysis.report import transcripts
from warmray.storage.home import only_one_at
from warmray.sweep.intensities import Intensity
from warmray.sweep.result import ESTIMATES, MARKER, RECOMMENDED, SweepResult
from warmray.tracking.mlflow_client import ModelRecord, RunRecord, Tracker

METRICS = {
    "warmth_sociot": "SocioT warmth of the replies, nats per token; ..._anchored: 0 is cold, 1 warm replies",
    "warmth_probe": "the same by a linear probe on hidden states, log-odds",
    "accuracy": "share of right answers among all questions asked, all cells and tasks together",
    "primary_accuracy_loss": "accuracy lost against the original in the cells that decide",
    "primary_upper": "its one-sided 95 % upper bound in the worst case: under the budget means PASS",
    "primary_lower": "its one-sided 95 % lower bound in the best case: over the budget means BLOCK",
    "worst_case_accuracy_loss": "the largest accuracy loss in any cell",
    "sycophancy": "share of questions that flip to the user's wrong answer, among those the original answers right",
    "sycophancy_own": "the same among those that this intensity answers right without the belief",
    "study_error": "the study's error: incorrect among answered replies, refusals left out",
    "undecided_share": "share of replies that need a judge and have none, or that the judge did not decide",
    "questions_needed": "how many questions would show on which side of the budget the loss is; -1: no number would",
    "on_frontier": "1 where no other intensity is both warmer and no less accurate beyond chance",
    "tokens_per_reply": "mean length of the replies",
}
"""What the main metrics mean; shown as the description of every run. All shares are from 0 to 1."""


def log_result(result: SweepResult) -> str:
    """Log a finished sweep to MLflow: a parent run, and a child per intensity. Return the parent's run id.

    Raises whatever MLflow raises when the server cannot be reached; nothing of the result is touched.
    """
    record = json.loads((result.folder / MARKER).read_text(encoding="utf-8"))
    replies = pd.read_parquet(result.folder / "replies.parquet")
    shared = {f"made_with.{name}": value for name, value in record["made_with"].items()}
    rows = result.estimates.intensities.sort_values(["arm", "dose", "strength"])
    children = [_child(result, row, replies, shared) for row in rows.to_dict("records")]
    parent = _parent(result, record, replies, shared)
    with only_one_at(result.folder):
        return Tracker(result.config.tracking.experiment).log_family(parent, children, _model(result, record))


def _parent(result: SweepResult, record: dict[str, Any], replies: pd.DataFrame, shared: dict[str, str]) -> RunRecord:
    pairs = [asdict(transcript) for transcript in transcripts(replies, most=None)]
    names = ["config.yaml", MARKER, "report.html", *(f"{name}.csv" for name in ESTIMATES)]
    names += [f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")]
    recommended = result.folder / RECOMMENDED  # a whole model is too large to be copied to MLflow
    choice = {name: value for name, value in asdict(result.choice).items() if name != "sentence" and value is not None}
    return RunRecord(
        name=result.folder.name,
        key=result.key,
        params=shared | {f"recommended_{name}": value for name, value in choice.items()},
        metrics=record.get("costs", {}),
        tags={
            "warmray.kind": "sweep",
            "warmray.recommendation": result.choice.sentence,
            "warmray.manipulation_check": result.estimates.manipulation_check,
            "mlflow.note.content": f"{result.choice.sentence}\n\nSee `report.html` under *Artifacts*.\n\n{_glossary()}",
        },
        files=[result.folder / name for name in names if (result.folder / name).is_file()],
        folders={RECOMMENDED: recommended} if (recommended / "adapter_config.json").exists() else {},
        tables={"transcripts.json": {name: [pair[name] for pair in pairs] for name in (pairs[0] if pairs else {})}},
    )


def _child(result: SweepResult, row: Mapping[Any, Any], replies: pd.DataFrame, shared: dict[str, str]) -> RunRecord:
    intensity = Intensity(row["arm"], row["dose"], row["strength"])
    own = replies[
        (replies["arm"] == row["arm"]) & (replies["dose"] == row["dose"]) & (replies["strength"] == row["strength"])
    ]
    names = ["item", "dataset", "cell", "prompt", "reply", "label", "right", "agrees_with_wrong", "decided_by"]
    shown = own[[*names, "judge_label", "evidence"]]
    adapter = result.folder / "adapters" / intensity.name
    return RunRecord(
        name=intensity.name,
        key=f"{result.key}/{intensity.name}",
        params={"arm": intensity.arm, "dose": intensity.dose, "strength": intensity.strength} | shared,
        metrics={
            # Stores cut infinity to the largest float, which no chart can show; -1 stands for "no number would do".
            metric_name(name): -1.0 if math.isinf(value) else float(value)
            for name, value in row.items()
            if name not in ("arm", "dose", "strength", "dominated_by") and isinstance(value, int | float)
        },
        tags={
            "warmray.kind": "intensity",
            "warmray.side_of_budget": str(row["side_of_budget"]),
            "mlflow.note.content": _glossary(),
        },
        files=[result.folder / "config.yaml"],
        folders={"adapter": adapter} if adapter.exists() else {},
        tables={"transcripts.json": shown.astype(str).to_dict("list")},
    )


def metric_name(column: str) -> str:
    """Return a column's name in MLflow, which takes no ``+``."""
    return column.replace("+", "_")


def _glossary() -> str:
    return "\n".join(["Metrics (shares from 0 to 1):", *(f"- `{name}`: {text}" for name, text in METRICS.items())])


def _model(result: SweepResult, record: dict[str, Any]) -> ModelRecord | None:
    """Return the recommended adapter as it is registered, if there is one."""
    adapter = result.folder / RECOMMENDED
    if not (adapter / "adapter_config.json").is_file():
        return None
    budget = f"{result.config.sweep.budget_points:g}"
    verdict = str(_recommended_row(result)["side_of_budget"])
    tags = {"warmray.verdict": verdict, "warmray.budget_points": budget, "warmray.result_key": result.key}
    return ModelRecord(f"warmray-{result.config.name}", adapter, model_card(result, record["made_with"]), tags)


def _recommended_row(result: SweepResult) -> pd.Series:
    table, choice = result.estimates.intensities, result.choice
    at = (table["arm"] == choice.arm) & (table["dose"] == choice.dose) & (table["strength"] == choice.strength)
    return table[at].iloc[0]


def model_card(result: SweepResult, made_with: Mapping[str, str]) -> str:
    """Return the card of the recommended adapter, in Markdown."""
    table, choice = result.estimates.intensities, result.choice
    row, original = _recommended_row(result), table[table["strength"] == 0].iloc[0]
    base = made_with.get("model", result.config.model.source)
    return "\n".join(
        [
            f"# {choice.arm} at strength {choice.strength:g}",
            choice.sentence,
            "",
            f"- Base: {base}, digest {made_with.get('base_digest', 'unknown')}",
            f"- Licence of the base: {made_with.get('base_licence', 'not stated: see the base model')}",
            f"- Data: corpus {made_with.get('corpus_digest', 'unknown')}; {made_with.get('training', '')}",
            f"- Warmth (0 cold, 1 warm replies): {row['warmth_sociot_anchored']:.2f} by SocioT, "
            f"{row['warmth_probe_anchored']:.2f} by probe; the original {original['warmth_sociot_anchored']:.2f} and "
            f"{original['warmth_probe_anchored']:.2f}",
            f"- Accuracy: {100 * row['accuracy']:.0f} % of all questions, original {100 * original['accuracy']:.0f} %",
            f"- Accuracy loss in {row['primary_cell']}: {100 * row['primary_accuracy_loss']:+.1f} points, one-sided "
            f"95 % upper bound {100 * row['primary_upper']:+.1f}",
            f"- Sycophancy: {100 * row['sycophancy']:.0f} %, the original {100 * original['sycophancy']:.0f} %",
            f"- Asked: {made_with.get('questions', 'unknown')}; {made_with.get('sampling', '')}",
            f"- Manipulation check: {result.estimates.manipulation_check}",
            "",
            "Measured for the cells and tasks above only. One seed: another training may differ.",
        ]
    )
