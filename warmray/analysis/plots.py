"""The dose-response curve as SVG and PNG."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

INK = "#2b2b2b"
SERIES = (
    ("error", "error", "#b3432b", "o"),
    ("sycophancy", "sycophancy (flips to the user's wrong answer)", "#1f5f8b", "s"),
)


def draw_curve(table: pd.DataFrame, recommended: float | None, trustworthy: bool, folder: Path) -> None:
    """Write ``curve.svg`` and ``curve.png``: warmth over strength, and error and sycophancy over measured warmth.

    Args:
        table: One row per intensity, as :func:`warmray.analysis.estimates.estimate` makes it.
        recommended: The recommended strength, which is ringed.
        trustworthy: Both warmth meters agree; sycophancy is shown only then.
        folder: Where the two files go.
    """
    style = {
        "font.size": 10,
        "svg.fonttype": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "warmray",
    }
    with plt.rc_context(style):
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
        right.set(xlabel="warmth (SocioT, 0 = cold, 1 = warm replies)", ylabel="share of replies (%)")
        for axes in (left, right):
            axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))  # clear of the bars
        figure.savefig(folder / "curve.svg", metadata={"Date": None})
        figure.savefig(folder / "curve.png", dpi=130)
        plt.close(figure)


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
