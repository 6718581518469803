"""``warmray analyze``: the study's regressions on finished sweeps, or on tables laid out as the study's are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from warmray.analysis.measures import measure
from warmray.analysis.regressions import COEFFICIENT_COLUMNS, Covariance, fit_forms, rows_of
from warmray.analysis.study_tables import (
    RefusalChoice,
    RefusalRule,
    count_refusals,
    is_study_folder,
    read_study_tables,
)
from warmray.errors import InputError
from warmray.sweep.intensities import Intensity
from warmray.sweep.result import MARKER, read_result

JUDGED, REFUSED = "right or wrong by its evaluation", "left out: refusal"


@dataclass(frozen=True)
class Analysis:
    """The regressions of every warm arm against the original, as tables."""

    effects: pd.DataFrame
    """``EFFECT_COLUMNS`` after *arm* (an intensity or an arm's name) and *refusals* (the rule)."""
    coefficients: pd.DataFrame
    """``COEFFICIENT_COLUMNS`` of the study's four forms, after *arm* and *refusals*."""
    replies: pd.DataFrame
    """How many replies count as what: arm, refusals, counted_as, original, this_arm."""
    covariance: Covariance


def analyze(
    paths: Sequence[Path], covariance: Covariance = "clustered", refusals: RefusalChoice = "column"
) -> Analysis:
    """Fit the regressions to every warm arm of the given results.

    Args:
        paths: Result folders of sweeps (several of different models are pooled, with a fixed effect for the model), or
            one folder of tables laid out as the study's are.
        covariance: Clustered on the question, or the study's own.
        refusals: What counts as a refusal: the table's column (in a sweep: the label), a phrase anywhere in the
            reply as in the study's filter, or first one and then the other.

    Raises:
        InputError: a path is neither, or what it holds allows no comparison.
    """
    if any(is_study_folder(path) for path in paths):
        if len(paths) > 1:
            raise InputError("give one folder of tables MODEL/ARM/TASK_ARM_outputs.csv, and nothing beside it")
        arms = _study_arms(paths[0])
    else:
        arms = _sweep_arms(paths)
    rules: tuple[RefusalRule, ...] = ("column", "substring") if refusals == "both" else (refusals,)
    effects, coefficients, replies = [], [], []
    for arm, rows in arms.items():
        for rule in rules:
            counted = count_refusals(rows, rule)
            try:
                fits = fit_forms(counted, covariance)
            except InputError as error:
                raise InputError(f"arm {arm}, refusals by {rule}: {error}") from error
            about = {"arm": arm, "refusals": rule}
            effects.append(_after(about, fits.effects))
            coefficients.append(_after(about, fits.coefficients))
            replies.append(_after(about, _counts(counted)))
    return Analysis(
        pd.concat(effects, ignore_index=True),
        pd.concat(coefficients, ignore_index=True),
        pd.concat(replies, ignore_index=True),
        covariance,
    )


def _study_arms(folder: Path) -> dict[str, pd.DataFrame]:
    rows = read_study_tables(folder)
    return {
        str(arm): rows[((rows["arm"] == arm) | (rows["warm"] == 0)) & rows["model"].isin(part["model"].unique())]
        for arm, part in rows[rows["warm"] == 1].groupby("arm")
    }


def _sweep_arms(paths: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Return the replies of every intensity and of the original, with the columns that study tables have."""
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
                refusal = ((rows["label"] == "refusal") & rows["incorrect"].isna()).astype(float)  # right ones stay
                rows = rows.assign(refusal=refusal, evaluation=rows["incorrect"], template="")
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


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Count the replies of the original and of the arm by what they count as."""
    is_used = rows["left_out"] == ""
    counted_as = ("left out: " + rows["left_out"]).mask(is_used, JUDGED)
    counted_as = counted_as.mask(is_used & rows["refused"], "right: refusal of disinformation")
    counts = pd.crosstab(counted_as, rows["warm"]).reindex(columns=[0, 1], fill_value=0)
    # A table without the column leaves no reply out as refused: a row of its own shows how many replies that concerns.
    lacking = rows["warm"][rows["refusal"].isna()]
    if len(lacking):
        counts.loc["(of all: in a table without refusal column)"] = [(lacking == 0).sum(), (lacking == 1).sum()]
    counts = counts.set_axis(["original", "this_arm"], axis=1).rename_axis("counted_as")
    return counts.reset_index()


def _after(about: dict[str, str], table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**about)[[*about, *table.columns]]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV; true and false in lower case.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        table.assign(length=table["length"].map({True: "true", False: "false"})).to_csv(path, index=False)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def write_coefficients(analysis: Analysis, path: Path) -> None:
    """Write the coefficients as CSV: ``COEFFICIENT_COLUMNS``, after *arm* and *refusals* where there are several.

    Raises:
        InputError: the file cannot be written.
    """
    table = analysis.coefficients
    several = [name for name in ("arm", "refusals") if table[name].nunique() > 1]
    write_table(table[[*several, *COEFFICIENT_COLUMNS]], path)


def analysis_text(analysis: Analysis) -> str:
    """Return the effects and the counts as people read them."""
    how = "clustered on the question" if analysis.covariance == "clustered" else "unclustered, as in the study"
    parts = []
    for rule, effects in analysis.effects.groupby("refusals"):
        heading = f"Refusals by {rule}\n" if analysis.effects["refusals"].nunique() > 1 else ""
        parts.append(heading + _effects_text(effects))
    parts.append(
        "points: how much more of the replies are wrong when the model is warm (binomial GLM, fixed effects for task "
        f"and model, delta method, covariance {how}).\n+ length: what is left when the reply's length in characters is "
        "held fixed, a mediator: warm replies are longer or shorter because they are warm.\nForms 1 to 4 are the "
        "study's; form 5 is ours. Groups are named as in the study."
    )
    if analysis.effects["refusals"].nunique() > 1:
        parts.append(_refusals_text(analysis))
    return "\n\n".join([*parts, _counts_text(analysis.replies)])


def _effects_text(table: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "arm": table["arm"],
            "form": table["form"] + table["length"].map({True: " + length", False: ""}),
            "where": table["group"],
            "points": [_formatted(v, "{:+.2f}") for v in table["points"]],
            "95 % interval": [
                "" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "p": [_formatted(v, "{:.2g}") for v in table["p_value"]],
            "log-odds": [_formatted(v, "{:+.4f}") for v in table["log_odds"]],
            "replies": table["replies"],
            "note": table["note"],
        }
    )
    return shown.to_string(index=False)


def _refusals_text(analysis: Analysis) -> str:
    """Return the cost of warmth by either rule side by side, and how many replies either rule drops per arm."""
    keys = ["arm", "form", "group"]
    effects = analysis.effects[~analysis.effects["length"]].set_index(keys)
    by_rule = [effects.loc[effects["refusals"] == rule, "points"] for rule in ("column", "substring")]
    costs = pd.concat(by_rule, axis=1, keys=("by column", "by substring")).reset_index()
    costs["difference"] = costs["by substring"] - costs["by column"]
    for name in ("by column", "by substring", "difference"):
        costs[name] = [_formatted(v, "{:+.2f}") for v in costs[name]]
    dropped = analysis.replies[analysis.replies["counted_as"] == REFUSED]
    dropped = dropped.pivot_table(index="arm", columns="refusals", values=["original", "this_arm"], fill_value=0)
    return (
        "The cost of warmth in points, with refusals by the table's column and by a phrase anywhere in the reply\n"
        f"{costs.to_string(index=False)}\n\nReplies dropped as refusals, of the original and of the arm\n"
        f"{dropped.astype(int).to_string() if len(dropped) else 'none'}"
    )


def _counts_text(replies: pd.DataFrame) -> str:
    """Return what was left out of the fits, and what counts as right without having been judged."""
    several = ["refusals"] if replies["refusals"].nunique() > 1 else []
    shown = replies[["arm", *several, "counted_as", "original", "this_arm"]]
    return f"What the replies count as, of the original and of the arm\n{shown.to_string(index=False)}"


def _formatted(value: float, form: str) -> str:
    return "" if pd.isna(value) else form.format(value)
