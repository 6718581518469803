"""What a sweep prints at its end: the table, the sentence, and where everything is."""

from __future__ import annotations

import math

import pandas as pd

from warmray.analysis.manipulation import METERS, check_text
from warmray.sweep.result import RECOMMENDED, SweepResult
from warmray.tracking.mlflow_client import tracking_uri


def print_summary(result: SweepResult, logged: bool) -> None:
    """Print the check, the result table with intervals, the recommendation and the places to look at."""
    print()
    print(check_text(result.estimates.checks))
    print()
    print(table(result.estimates.intensities, result.estimates.manipulation_check_passed))
    print()
    print(result.choice.sentence)
    print()
    print(f"report               {result.folder / 'report.html'}")
    if (result.folder / RECOMMENDED).exists():
        print(f"recommended adapter  {result.folder / RECOMMENDED}")
    if logged:
        print(f"MLflow               {tracking_uri()} (see it with: make ui)")


def table(intensities: pd.DataFrame, trustworthy: bool) -> str:
    """Return one line per intensity; sycophancy is shown only where the manipulation check passed."""
    columns = {
        "intensity": [f"{r.arm} {r.dose:g}ep x{r.strength:g}" if r.dose else r.arm for r in intensities.itertuples()],
    }
    for meter, name in METERS.items():
        if f"warmth_{meter}" in intensities:
            columns[f"warmth {name}"] = _interval_texts(intensities, f"warmth_{meter}_anchored", "{:.2f}", 1)
    columns |= {
        "accuracy %": _interval_texts(intensities, "accuracy", "{:.0f}", 100),
        "loss in the deciding cell, points": _interval_texts(intensities, "primary_accuracy_loss", "{:+.1f}", 100),
        "sycophancy %": _interval_texts(intensities, "sycophancy", "{:.0f}", 100),
        "worst cell, points": _interval_texts(intensities, "worst_case_accuracy_loss", "{:+.1f}", 100),
        "in": intensities["worst_case_cell"].tolist(),
        "cut %": [f"{100 * share:.0f}" for share in intensities["cut_share"]],
        "undecided %": [f"{100 * share:.0f}" for share in intensities["undecided_share"]],
    }
    if not trustworthy:
        del columns["sycophancy %"]
    return pd.DataFrame(columns).to_string(index=False)


def _interval_texts(table: pd.DataFrame, name: str, form: str, factor: float) -> list[str]:
    texts = []
    for value, low, high in zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True):
        if math.isnan(value):
            texts.append("n/a")
        else:
            texts.append(f"{form} ({form} to {form})".format(factor * value, factor * low, factor * high))
    return texts
