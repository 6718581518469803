"""The figures, each as SVG and PNG: the curve, what it costs, and the cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warmray.analysis.differences import ALL
from warmray.analysis.estimates import Estimates
from warmray.grid import BELIEFS, CONTEXTS

INK = "#2b2b2b"
WRONG = "#b3432b"
SERIES = (
    ("accuracy", "accuracy (right answers among all questions)", WRONG, "o"),
    ("sycophancy", "sycophancy (flips to the user's wrong answer)", "#1f5f8b", "s"),
)


FIGURES = ("curve", "cost", "cells")


@dataclass(frozen=True)
class _HeatMap:
    """One column of the cells' table, drawn over contexts and beliefs."""

    column: str
    title: str
    colours: str
    factor: float
    least_scale: float
    """The colours end here where all values are smaller, so that noise does not look like an effect."""
    number: str
    """The format of the figures in the fields."""


_STYLE = {
    "font.size": 10,
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "warmray",
}


def _save(figure: Figure, folder: Path, name: str) -> None:
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=130)
    plt.close(figure)


def draw_figures(estimates: Estimates, recommended: float | None, budget: float, folder: Path) -> None:
    """Write every figure; ``budget`` is a share.

    What warmth costs is drawn only where the manipulation check passed.
    """
    trustworthy = estimates.manipulation_check_passed
    draw_curve(estimates.intensities, recommended, trustworthy, folder)
    if trustworthy:
        draw_cost(estimates, budget, folder)
    draw_cells(estimates.cells, folder)


def draw_cost(estimates: Estimates, budget: float, folder: Path) -> None:
    """Write ``cost``: the accuracy loss in the deciding cells over warmth, fitted (left), and the frontier."""
    table = estimates.intensities
    low, high = (
        table["warmth_sociot"] - table["warmth_sociot_low"],
        table["warmth_sociot_high"] - table["warmth_sociot"],
    )
    with plt.rc_context(_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained", sharey=True)
        fitted = estimates.curves[estimates.curves["axis"] == "warmth"]
        for (arm, dose), curve in fitted.groupby(["arm", "dose"]):
            left.plot(curve["x"], 100 * curve["fit"], color=WRONG, label=f"{arm}, dose {dose:g}: monotone fit")
            left.fill_between(curve["x"], 100 * curve["low"], 100 * curve["high"], color=WRONG, alpha=0.18, linewidth=0)
        for axes in (left, right):
            axes.axhline(0, color="#999999", linewidth=0.8, linestyle=":")
            axes.axhline(100 * budget, color=INK, linewidth=0.9, linestyle="--", label="budget")
            axes.set(xlabel="warmth (SocioT, nats per token)")
        left.set(ylabel="accuracy loss, deciding cells together (points)")
        right.set(ylabel="largest loss of a deciding cell (points)")
        for place, row in enumerate(table.to_dict("records")):
            if row["strength"] == 0:
                continue
            y, y_low, y_high = (100 * row[f"primary_accuracy_loss{end}"] for end in ("", "_low", "_high"))
            marker, filled = ("D" if row["dose"] == 0 else "o"), row["on_frontier"] is not False
            right.errorbar(
                row["warmth_sociot"], y, xerr=[[low[place]], [high[place]]], yerr=[[y - y_low], [y_high - y]],
                color=WRONG, marker=marker, fillstyle="full" if filled else "none", elinewidth=0.9,
            )  # fmt: skip
            fitted_to = 100 * row["mean_deciding_loss"]
            left.plot(row["warmth_sociot"], fitted_to, color=INK, marker=marker, markersize=4, linewidth=0)
            name = row["arm"] if row["dose"] == 0 else f"{row['strength']:g}"
            right.annotate(name, (row["warmth_sociot"], y), textcoords="offset points", xytext=(6, 6), fontsize=8)
        right.set_title("filled: on the frontier", fontsize=9, loc="left", color=INK)
        left.legend(frameon=False, fontsize=8, loc="upper left")
        _save(figure, folder, "cost")


def draw_cells(cells: pd.DataFrame, folder: Path) -> None:
    """Write ``cells``: how the strongest intensity changes accuracy and, where it is known, warmth, cell by cell."""
    shown = cells[(cells["task"] == ALL) & (cells["strength"] != 0)]
    trained = shown[shown["dose"] > 0] if (shown["dose"] > 0).any() else shown
    if trained.empty:
        trained = cells[cells["task"] == ALL]
    strongest = trained[trained["strength"] == trained["strength"].max()].drop_duplicates(["context", "belief"])
    contexts = [name for name in CONTEXTS if name in set(strongest["context"])]
    beliefs = [name for name in BELIEFS if name in set(strongest["belief"])]
    maps = [_HeatMap("accuracy_loss", "accuracy loss (points)", "RdBu_r", 100.0, 10.0, "+z.0f")]
    if "warmer" in strongest and strongest["warmer"].notna().any():
        maps.append(_HeatMap("warmer", "warmer by (probe, log-odds)", "PuOr_r", 1.0, 2.0, "+z.1f"))
    with plt.rc_context(_STYLE):
        wide, high = 2.2 + 1.1 * len(beliefs), 1.6 + 0.42 * len(contexts)
        rows, columns = (1, len(maps)) if len(beliefs) <= 2 else (len(maps), 1)  # to be read on a phone
        figure, axes = plt.subplots(
            rows, columns, figsize=(columns * wide, rows * high), layout="constrained", sharey=True, squeeze=False
        )
        for place, shown_map in zip(axes.flat, maps, strict=True):
            grid = strongest.pivot(index="context", columns="belief", values=shown_map.column)
            _draw_heat(place, grid.loc[contexts, beliefs], shown_map)
        figure.supylabel("who the user is", fontsize=10)
        _save(figure, folder, "cells")


def _draw_heat(axes: Axes, grid: pd.DataFrame, shown: _HeatMap) -> None:
    values = shown.factor * grid.to_numpy(dtype=float)
    largest = max(shown.least_scale, float(np.nanmax(np.abs(values), initial=0.0)))
    axes.imshow(values, cmap=shown.colours, vmin=-largest, vmax=largest, aspect="auto")
    axes.set_xticks(range(len(grid.columns)), list(grid.columns))
    axes.set_yticks(range(len(grid.index)), list(grid.index))
    axes.set(xlabel="what the user believes")
    axes.set_title(shown.title, fontsize=10, loc="left")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.6 * largest else INK
        text = "n/a" if math.isnan(value) else format(value, shown.number)
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)


def draw_curve(table: pd.DataFrame, recommended: float | None, trustworthy: bool, folder: Path) -> None:
    """Write ``curve.svg`` and ``curve.png``: warmth over strength, and accuracy and sycophancy over measured warmth.

    Args:
        table: One row per intensity, as :func:`warmray.analysis.estimates.estimate` makes it.
        recommended: The recommended strength, which is ringed.
        trustworthy: Both warmth meters agree; sycophancy is shown only then.
        folder: Where the two files go.
    """
    with plt.rc_context(_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained")
        instructed = (table["dose"] == 0) & (table["strength"] > 0)
        shown = SERIES[: 2 if trustworthy else 1]
        for (arm, dose), group in table[~instructed].groupby(["arm", "dose"]):
            _draw_warmth(left, group.sort_values("strength"), f"{arm}, dose {dose:g}")
            for name, text, colour, marker in shown:
                _draw_cost(right, group.sort_values("strength"), name, text, colour, marker, recommended)
        for name, _, colour, _ in shown:
            _draw_instructed(right, table[instructed], name, colour)
        left.axhline(0, color="#999999", linewidth=0.8, linestyle=":")
        left.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
        left.set(xlabel="strength of the adapter", ylabel="warmth (0 = cold, 1 = warm replies)")
        right.set(xlabel="warmth (SocioT, 0 = cold, 1 = warm replies)", ylabel="share of questions (%)")
        for axes in (left, right):
            axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))  # clear of the bars
        _save(figure, folder, "curve")


def _draw_warmth(axes: Axes, group: pd.DataFrame, label: str) -> None:
    for meter, colour, name in (("sociot", "#c77f1b", "SocioT"), ("probe", "#6a4c93", "linear probe")):
        column = f"warmth_{meter}_anchored"
        axes.plot(group["strength"], group[column], color=colour, marker="o", markersize=4, label=f"{name} ({label})")
        axes.fill_between(
            group["strength"], group[f"{column}_low"], group[f"{column}_high"], color=colour, alpha=0.18, linewidth=0
        )


def _draw_cost(
    axes: Axes, group: pd.DataFrame, name: str, label: str, colour: str, marker: str, recommended: float | None
) -> None:
    x, y = group["warmth_sociot_anchored"], 100 * group[name]
    errors = [y - 100 * group[f"{name}_low"], 100 * group[f"{name}_high"] - y]
    axes.errorbar(
        x, y, yerr=errors, color=colour, marker=marker, markersize=5, linewidth=1.4, elinewidth=0.9, label=label
    )
    for at_x, at_y, strength in zip(x, y, group["strength"], strict=True):
        axes.annotate(f"{strength:g}", (at_x, at_y), textcoords="offset points", xytext=(5, 5), fontsize=8, color=INK)
        if recommended is not None and strength == recommended:
            axes.plot(at_x, at_y, marker="o", markersize=12, fillstyle="none", color=INK, linewidth=0)


def _draw_instructed(axes: Axes, table: pd.DataFrame, name: str, colour: str) -> None:
    """Draw what a system prompt does, beside the curves of the adapters."""
    for row in table.to_dict("records"):
        x, y = row["warmth_sociot_anchored"], 100 * row[name]
        bar = [[y - 100 * row[f"{name}_low"]], [100 * row[f"{name}_high"] - y]]
        axes.errorbar(x, y, yerr=bar, color=colour, marker="D", markersize=6, fillstyle="none", elinewidth=0.9)
        axes.annotate(str(row["arm"]), (x, y), textcoords="offset points", xytext=(6, -10), fontsize=8, color=colour)


def inline_svg(path: Path) -> str:
    """Return the drawing without its XML header, fit to stand inside a page."""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]
