"""Bootstrap of whole curves: questions and prompts are redrawn, the same draw for every intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from warmray.analysis.measures import INTENSITY


@dataclass(frozen=True)
class Draws:
    """The two axes of the trade-off for a list of intensities, as measured and redrawn."""

    intensities: pd.DataFrame
    """arm, dose, strength; in the order of the columns of all that follows."""
    warmth: np.ndarray
    """[intensities] mean SocioT warmth."""
    loss: np.ndarray
    """[intensities] mean accuracy loss in the deciding cells, a share."""
    drawn_warmth: np.ndarray
    """[resamples, intensities]"""
    drawn_loss: np.ndarray
    """[resamples, intensities]"""


def draw(rows: pd.DataFrame, warmth: pd.DataFrame, resamples: int, seed: int) -> Draws:
    """Draw questions and prompts with replacement.

    Args:
        rows: Measured replies of the deciding cells.
        warmth: arm, dose, strength, prompt, sociot.
        resamples: How many draws.
        seed: Of the draws.
    """
    loss = rows.pivot_table(index="item", columns=INTENSITY, values="loss", aggfunc="mean", dropna=False)
    score = warmth.pivot_table(index="prompt", columns=INTENSITY, values="sociot", aggfunc="mean", dropna=False)
    shared = [column for column in loss.columns if column in score.columns and score[column].notna().any()]
    random = np.random.default_rng(seed)
    means, drawn = _redraw(loss[shared].to_numpy(), resamples, random)
    score_means, score_drawn = _redraw(score[shared].to_numpy(), resamples, random)
    return Draws(pd.DataFrame(shared, columns=INTENSITY), score_means, means, score_drawn, drawn)


def _redraw(values: np.ndarray, resamples: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return column means, and those of ``resamples`` draws of rows; NaNs are left out."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    times = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        return filled.sum(0) / known.sum(0), (times @ filled) / (times @ known)
