"""``warmray power``: what a number of questions can decide, with a discordance that was seen, given or assumed."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from warmray.analysis.measures import INTENSITY, measure
from warmray.analysis.power import STUDY_DISCORDANCE, power_table
from warmray.errors import InputError
from warmray.sweep.intensities import Intensity
from warmray.sweep.result import decision_rule_of, read_result


def power_text(margin: float, questions: int | None, discordance: float | None, folder: Path | None) -> str:
    """Return the table as people read it.

    Raises:
        InputError: the discordance is not a share, or the folder holds no result with a trained adapter.
    """
    if discordance is not None and discordance > 1:
        raise InputError(f"--discordance {discordance:g} is not a share: give one from 0 to 1, such as 0.2")
    seen = _seen(folder) if folder else {"as given": discordance} if discordance else dict(STUDY_DISCORDANCE)
    table = power_table(seen, margin, questions)
    shown = {
        table.columns[0] if not folder else "intensity and cell": table["task"],
        "discordance": [f"{value:.2f}" for value in table["discordance"]],
        f"questions for {100 * margin:g} points": [
            "none would do" if math.isinf(n) else f"{n:,.0f}" for n in table["questions_to_certify"]
        ],
    }
    if questions is not None:
        shown[f"certifiable with {questions:,}"] = [f"{value:.1f} points" for value in table["certifiable_points"]]
        shown[f"detectable with {questions:,}"] = [f"{value:.1f} points" for value in table["detectable_points"]]
    source = "seen in this result" if folder else "as given" if discordance else "the study's warm models (its cells)"
    return (
        f"{pd.DataFrame(shown).to_string(index=False)}\n\n"
        "certify: the one-sided 95 % upper bound is under the budget in 80 % of experiments, if warmth costs "
        f"nothing\ndetect:  a two-sided test at 5 % finds it in 80 % of experiments\ndiscordance: {source}"
    )


def _seen(folder: Path) -> dict[str, float]:
    result = read_result(folder)
    rows = measure(pd.read_parquet(folder / "replies.parquet"))
    own = rows[~rows["control"] & (rows["strength"] != 0) & rows["cell"].isin(decision_rule_of(result.config).primary)]
    if own.empty:
        raise InputError(f"{folder}: nothing but the original model was evaluated")
    squares = own.assign(square=own["loss"] ** 2).groupby([*INTENSITY, "cell"])["square"].mean()
    return {f"{Intensity(a, d, s).name} {cell}": float(value) for (a, d, s, cell), value in squares.items()}
