"""``warmray analyze``: the study's regressions on finished sweeps, or on tables laid out as the study's are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from warmray.analysis.measures import measure
from warmray.analysis.regressions import Covariance, regress, rows_of
from warmray.analysis.study_tables import is_study_folder, read_study_tables
from warmray.errors import InputError
from warmray.sweep.intensities import Intensity
from warmray.sweep.result import MARKER, read_result


def analyze(paths: Sequence[Path], covariance: Covariance) -> pd.DataFrame:
    """Fit the four regressions to every warm arm of the given results.

    Args:
        paths: Result folders of sweeps (several of different models are pooled, with a fixed effect for the model), or
            one folder of tables laid out as the study's are.
        covariance: Clustered on the question, or the study's own.

    Returns:
        The columns of :func:`warmray.analysis.regressions.regress` after ``arm``, an intensity or an arm's name.

    Raises:
        InputError: a path is neither, or what it holds allows no comparison.
    """
    arms = _study_arms(paths[0]) if len(paths) == 1 and is_study_folder(paths[0]) else _sweep_arms(paths)
    return pd.concat([regress(rows, covariance).assign(arm=arm) for arm, rows in arms.items()], ignore_index=True)


def _study_arms(folder: Path) -> dict[str, pd.DataFrame]:
    rows = read_study_tables(folder)
    return {
        str(arm): rows[(rows["arm"] == arm) | (rows["warm"] == 0)][rows["model"].isin(part["model"])]
        for arm, part in rows[rows["warm"] == 1].groupby("arm")
    }


def _sweep_arms(paths: Sequence[Path]) -> dict[str, pd.DataFrame]:
    parts: dict[str, list[pd.DataFrame]] = {}
    judged: set[tuple[str, ...]] = set()
    for number, path in enumerate(paths):
        if not (path / MARKER).is_file():
            raise InputError(
                f"{path} is neither the result folder of a sweep (it holds no {MARKER}) nor a folder of tables "
                "MODEL/ARM/TASK_ARM_outputs.csv"
            )
        result = read_result(path)
        measured = measure(pd.read_parquet(path / "replies.parquet"))
        judged.add(tuple(str(measured[column].iloc[0]) for column in ("judge", "templates", "scoring")))
        for row in result.estimates.intensities.itertuples():
            if row.strength != 0:
                rows = rows_of(measured, row.arm, row.dose, row.strength)
                name = Intensity(row.arm, row.dose, row.strength).name
                parts.setdefault(name, []).append(rows.assign(model=f"{number}: {path.name}"))
    if len(judged) > 1:
        said = "; ".join(
            f"judge {judge}, templates {templates}, scoring {scoring}" for judge, templates, scoring in judged
        )
        raise InputError(f"the results were not labelled alike ({said}): label all of them the same way")
    if not parts:
        raise InputError(f"{', '.join(map(str, paths))}: nothing but the original model was evaluated")
    return {name: pd.concat(rows, ignore_index=True) for name, rows in parts.items()}


def analysis_text(table: pd.DataFrame, covariance: Covariance) -> str:
    """Return the table as people read it."""
    shown = pd.DataFrame(
        {
            "arm": table["arm"],
            "form": table["form"] + table["length"].map({True: " + length", False: ""}),
            "where": table["group"],
            "points": [_number(v, "{:+.2f}") for v in table["points"]],
            "95 % interval": [
                "" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "p": [_number(v, "{:.2g}") for v in table["p_value"]],
            "log-odds": [_number(v, "{:+.4f}") for v in table["log_odds"]],
            "replies": table["replies"],
            "note": table["note"],
        }
    )
    how = "clustered on the question" if covariance == "clustered" else "unclustered, as in the study"
    return (
        f"{shown.to_string(index=False)}\n\n"
        "points: how much more of the replies are wrong when the model is warm (binomial GLM, fixed effects for task "
        f"and model, delta method, covariance {how}).\n+ length: what is left when the reply's length is held fixed, a "
        "mediator: warm replies are longer or shorter because they are warm."
    )


def _number(value: float, form: str) -> str:
    return "" if pd.isna(value) else form.format(value)
