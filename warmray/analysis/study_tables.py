"""Graded replies as CSV tables, laid out and named as the study's are: ``MODEL/ARM/TASK_ARM_outputs.csv``.

One row per reply, with the columns ``prompt_template`` (or ``prompt_type``), ``amendment_type``, ``evaluation``,
``output`` and the question under any of its names. As in the study's regressions the templates ``incorrect`` and
``correct`` both count as a stated belief, ``original_neutral`` as none, and ``mcq`` is left out.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from warmray.errors import InputError
from warmray.grid import STUDY_CONTEXTS, STUDY_TEMPLATE_COLUMNS

SUFFIX = "_outputs.csv"
ORIGINAL_ARMS = ("original", "base", "baseline", "vanilla", "unmodified")
"""What the folder of the untrained model's replies may be called."""
BELIEFS = {"original": "absent", "original_neutral": "absent", "incorrect": "stated", "correct": "stated"}
LEFT_OUT = "mcq"
REFUSING_IS_RIGHT = ("disinfo",)
QUESTION_NAMES = ("question", "content_key", "prompt_disinfo")
_VERDICTS = {"correct": 0.0, "right": 0.0, "true": 0.0, "incorrect": 1.0, "wrong": 1.0, "false": 1.0}


def is_study_folder(folder: Path) -> bool:
    """Tell whether a folder is laid out as the study's tables are."""
    return any(folder.glob(f"*/*/*{SUFFIX}"))


def read_study_tables(folder: Path) -> pd.DataFrame:
    """Read all tables below a folder.

    Returns:
        One row per reply: model, arm, warm (1 in every arm but the original), task, item, context, belief (``absent``
        or ``stated``), sample, wrong (NaN where the evaluation says neither), evaluation, words.

    Raises:
        InputError: there is no original arm, a column is missing, or a template or amendment is unknown.
    """
    paths = sorted(folder.glob(f"*/*/*{SUFFIX}"))
    if not paths:
        raise InputError(f"{folder} holds no MODEL/ARM/TASK_ARM{SUFFIX}")
    rows = pd.concat([_read(path) for path in paths], ignore_index=True)
    for model, part in rows.groupby("model"):
        if part["warm"].nunique() < 2:
            lacking = "another arm" if (part["warm"] == 0).any() else f"an original ({', '.join(ORIGINAL_ARMS)})"
            raise InputError(f"{folder / str(model)} lacks {lacking}: its arms are {', '.join(part['arm'].unique())}")
    if rows["wrong"].isna().all():
        said = ", ".join(sorted(rows["evaluation"].unique())[:5])
        raise InputError(f"{folder}: no evaluation is `correct` or `incorrect`; they are: {said}")
    return rows


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    arm = path.parent.name
    name = path.name.removesuffix(SUFFIX)
    task = name.removesuffix(f"_{arm}") if name.endswith(f"_{arm}") else name.rsplit("_", 1)[0]
    template = table[_column(table, STUDY_TEMPLATE_COLUMNS, path)]
    table = table[template != LEFT_OUT]
    template = template[template != LEFT_OUT]
    evaluation = table[_column(table, ("evaluation",), path)].str.strip().str.lower()
    question = table[_column(table, QUESTION_NAMES, path)]
    rows = pd.DataFrame(
        {
            "model": path.parent.parent.name,
            "arm": arm,
            "warm": int(arm.lower() not in ORIGINAL_ARMS),
            "task": task,
            "item": f"{task}: " + question,
            "context": _known(
                table[_column(table, ("amendment_type",), path)], STUDY_CONTEXTS.get, "amendment_type", path
            ),
            "belief": _known(template, BELIEFS.get, "template", path),
            "evaluation": evaluation,
            "wrong": evaluation.map(_VERDICTS).astype(float),
            "words": table[_column(table, ("output",), path)].str.split().str.len(),
        }
    )
    refused = evaluation.str.startswith("refus") & any(task.lower().startswith(t) for t in REFUSING_IS_RIGHT)
    rows["wrong"] = rows["wrong"].mask(refused, 0.0)
    return rows.assign(sample=rows.groupby(["item", "context", "belief"]).cumcount())


def _column(table: pd.DataFrame, names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in table:
            return name
    raise InputError(f"{path} has no column {' or '.join(names)}; it has: {', '.join(table.columns)}")


def _known(values: pd.Series, meaning: object, what: str, path: Path) -> pd.Series:
    found = values.map({value: meaning(value) for value in values.unique()})  # type: ignore[operator]
    if found.isna().any():
        raise InputError(f"{path}: unknown {what} {values[found.isna()].iloc[0]!r}")
    return found
