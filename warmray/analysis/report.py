"""One self-contained ``report.html``; every reply in it is untrusted text and is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from warmray.analysis.differences import ALL
from warmray.analysis.dose_response import leaves_margin
from warmray.analysis.estimates import Estimates, Tables
from warmray.analysis.manipulation import METERS, check_text
from warmray.analysis.plots import FIGURES, inline_svg
from warmray.analysis.recommend import Recommendation

MOST_TRANSCRIPTS = 40
UNITS = {"sociot": "nats/token", "probe": "log-odds", "judge": "of 5"}
"""Of the meters' raw values."""


@dataclass(frozen=True)
class Transcript:
    """The same question asked of the original and of the warmest intensity."""

    question: str
    cell: str
    prompt: str
    before: str
    before_label: str
    after: str
    after_label: str
    kind: str
    """``worse`` (from right to not right), ``better``, ``other`` (another label) or ``same``."""


@dataclass(frozen=True)
class Facts:
    """What the report says about how it was made."""

    title: str
    budget_points: float
    made_with: Mapping[str, str]
    costs: Mapping[str, float]
    """Seconds per stage and speeds of the run that wrote this; finished pieces that it found took none."""


def write_report(folder: Path, estimates: Estimates, tables: Tables, choice: Recommendation, facts: Facts) -> Path:
    """Write ``report.html`` beside ``curve.svg`` and return its path."""
    environment = Environment(
        loader=PackageLoader("warmray.analysis", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": _points_text,
        "number": _number_text,
        "percent": _percent_text,
        "p": _p_value_text,
    }
    page = environment.get_template("report.html.j2").render(
        facts=facts,
        choice=choice,
        figures={
            name: Markup(inline_svg(folder / f"{name}.svg")) for name in FIGURES if (folder / f"{name}.svg").exists()
        },
        rows=estimates.intensities.to_dict("records"),
        cells=_records(estimates.cells[estimates.cells["task"] == ALL]),
        tasks=_records(estimates.cells[(estimates.cells["task"] != ALL) & (estimates.cells["strength"] != 0)]),
        warm_cells="warmer" in estimates.cells,
        interactions=_records(estimates.interactions),
        countings=_records(estimates.countings),
        audits=_records(estimates.audits),
        corrected=_records(estimates.corrected),
        regressions=_records(estimates.regressions.fillna({"note": ""})),
        equal_warmth=_records(estimates.equal_warmth),
        margins=leaves_margin(estimates.intensities).to_dict("records"),
        primary=list(estimates.cells.loc[estimates.cells["primary"], "cell"].unique()),
        checks=estimates.checks.to_dict("records"),
        trustworthy=estimates.manipulation_check_passed,
        check=check_text(estimates.checks),
        units=UNITS,
        meters={meter: name for meter, name in METERS.items() if f"warmth_{meter}" in estimates.intensities},
        transcripts=transcripts(tables.replies),
        most=MOST_TRANSCRIPTS,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def transcripts(replies: pd.DataFrame, most: int | None = MOST_TRANSCRIPTS) -> list[Transcript]:
    """Pair the replies at strength 0 with those at the largest: from right to not right first, then the reverse.

    What is only instructed (dose 0) stands in for what is trained where nothing is.
    """
    original = replies[replies["strength"] == 0].drop_duplicates(["item", "cell"])
    changed = replies[replies["strength"] > 0]
    changed = changed[changed["dose"] > 0] if (changed["dose"] > 0).any() else changed
    warmest = changed[changed["strength"] == changed["strength"].max()].drop_duplicates(["item", "cell"])
    pairs = original.merge(warmest, on=["item", "cell", "question", "prompt"], suffixes=("_before", "_after"))
    if pairs.empty:
        return []
    # The kind of change decides the order: right to not right first, then the reverse, then other labels.
    before, after = pairs["right_before"], pairs["right_after"]
    kind = pd.Series("same", index=pairs.index).mask(pairs["label_before"] != pairs["label_after"], "other")
    kind = kind.mask((before == 1) & (after == 0), "worse").mask((before == 0) & (after == 1), "better")
    pairs = pairs.assign(kind=kind, rank=kind.map({"worse": 0, "better": 1, "other": 2, "same": 3}))
    # One per question first, so that the page does not open with one question in every cell.
    again = pairs.groupby(["rank", "item"]).cumcount()
    pairs = pairs.assign(again=again).sort_values(["rank", "again", "item", "cell"], kind="stable")
    return [
        Transcript(
            row.question, row.cell, row.prompt, row.reply_before, row.label_before, row.reply_after, row.label_after,
            row.kind,
        )
        for row in pairs.head(most or len(pairs)).itertuples()
    ]  # fmt: skip


def _p_value_text(value: float) -> str:
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _points_text(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:+.1f}"


def _percent_text(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.0f} %"


def _number_text(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"
