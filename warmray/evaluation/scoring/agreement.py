"""How well the grader does on replies that somebody else has labelled: ``warmray grade-check``."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from warmray.errors import InputError
from warmray.evaluation.grading import Verdict, grade
from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.registry import Task, task_of

COLUMNS = ("task", "question", "correct", "incorrect", "belief", "arm", "reply", "label")
LABELS = ("correct", "incorrect", "refusal", "unparsed", "truncated", "empty")
RESAMPLES = 2000


@dataclass(frozen=True)
class LabelledReply:
    """One reply, what it answers, and what a careful reader called it."""

    item: Item
    belief: str | None
    arm: str
    reply: str
    label: str

    @property
    def task(self) -> Task:
        """How it is graded."""
        return task_of(self.item)


def read_labelled(path: Path) -> list[LabelledReply]:
    """Read a CSV file with the columns task, question, correct, incorrect (JSON lists), belief, arm, reply, label.

    Raises:
        InputError: no such file, or a row that breaks the format; the message names file and line.
    """
    csv.field_size_limit(1 << 24)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            missing = set(COLUMNS) - set(rows.fieldnames or [])
            if missing:
                raise InputError(
                    f"{path} lacks the columns {', '.join(sorted(missing))} (needed: {', '.join(COLUMNS)})"
                )
            return [_parse(row, f"{path}:{rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _parse(row: dict[str, str], where: str) -> LabelledReply:
    lists = {}
    for name in ("correct", "incorrect"):
        try:
            lists[name] = tuple(json.loads(row[name]))
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {name!r} is no JSON list: {row[name]!r}") from error
    if row["label"] not in LABELS:
        raise InputError(f"{where}: unknown label {row['label']!r} (there are: {', '.join(LABELS)})")
    if not lists["correct"]:
        raise InputError(f"{where}: no accepted answer: fill `correct`")
    item = Item(where, row["task"], row["question"], lists["correct"], lists["incorrect"])
    return LabelledReply(item, row["belief"].strip() or None, row["arm"], row["reply"], row["label"])


def check(replies: Sequence[LabelledReply], grader: Callable[..., Verdict] = grade) -> pd.DataFrame:
    """Grade every reply and return one row per task, per arm and overall.

    Kappa, sensitivity (wrong replies that were called incorrect) and specificity (right ones that were called correct)
    are over the rows decided without a judge, with 95 % intervals: kappa's by a bootstrap over questions, the others
    exact (Clopper-Pearson).
    """
    graded = pd.DataFrame(
        [
            {
                "task": r.item.dataset,
                "arm": r.arm,
                "question": r.item.question,
                "label": r.label,
                "graded": grader(r.reply, r.item, cut=_ends_open(r.reply), belief=r.belief).label,
            }
            for r in replies
        ]
    )
    groups = [("all", "all", graded)]
    groups += [(str(task), "all", part) for task, part in graded.groupby("task")]
    groups += [("all", str(arm), part) for arm, part in graded.groupby("arm")]
    return pd.DataFrame([{"task": task, "arm": arm} | _agreement(part) for task, arm, part in groups])


def _ends_open(reply: str) -> bool:
    """Tell whether a reply ends in mid-sentence, and so was cut: the file does not say."""
    return reply.rstrip()[-1:].isalnum() or reply.rstrip().endswith((",", ";", ":", "-"))


def _agreement(part: pd.DataFrame) -> dict[str, object]:
    decided = part[part["graded"] != "ambiguous"]
    row: dict[str, object] = {"replies": len(part), "decided": len(decided) / len(part)}
    wrong, right = (decided[decided["label"] == label] for label in ("incorrect", "correct"))
    row |= _with_interval("kappa", _kappa(decided), *_kappa_interval(decided))
    for name, group, label in (("sensitivity", wrong, "incorrect"), ("specificity", right, "correct")):
        hits = int((group["graded"] == label).sum())
        interval = binomtest(hits, len(group)).proportion_ci() if len(group) else (np.nan, np.nan)
        row |= _with_interval(name, hits / len(group) if len(group) else np.nan, *interval)
    return row


def _with_interval(name: str, value: float, low: float, high: float) -> dict[str, object]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _kappa(rows: pd.DataFrame) -> float:
    with np.errstate(invalid="ignore"):
        return float(cohen_kappa_score(rows["label"], rows["graded"])) if len(rows) else float("nan")


def _kappa_interval(rows: pd.DataFrame) -> tuple[float, float]:
    labels = {name: number for number, name in enumerate(sorted({*rows["label"], *rows["graded"]}))}
    tables = [
        np.bincount(
            part["label"].map(labels) * len(labels) + part["graded"].map(labels), minlength=len(labels) ** 2
        ).reshape(len(labels), -1)
        for _, part in rows.groupby("question")
    ]
    if not tables:
        return float("nan"), float("nan")
    dice = np.random.default_rng(0)
    counts = dice.multinomial(len(tables), np.full(len(tables), 1 / len(tables)), size=RESAMPLES)
    resampled = np.tensordot(counts, np.array(tables), axes=1)
    total = resampled.sum((1, 2))
    agreed = np.trace(resampled, axis1=1, axis2=2) / total
    chance = (resampled.sum(1) * resampled.sum(2)).sum(1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        kappas = (agreed - chance) / (1 - chance)
    low, high = np.nanpercentile(kappas, [2.5, 97.5])
    return float(low), float(high)


def check_text(table: pd.DataFrame) -> str:
    """Return the table of :func:`check` for people."""
    columns = {"task": table["task"], "arm": table["arm"], "replies": table["replies"]}
    columns["decided without judge"] = [f"{100 * share:.0f} %" for share in table["decided"]]
    for name in ("kappa", "sensitivity", "specificity"):
        columns[name] = [
            f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})" for _, row in table.iterrows()
        ]
    return pd.DataFrame(columns).to_string(index=False)
