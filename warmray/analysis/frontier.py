"""Which intensities are worth having: warmth up, accuracy loss down, beyond chance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from warmray.analysis.resampling import Draws


def frontier(draws: Draws) -> pd.DataFrame:
    """Mark the intensities that no other one dominates.

    One dominates another if it is as warm or warmer and loses as much accuracy or less, and at least one of the two
    differences lies beyond chance: its 95 % interval, drawn from the same questions and prompts, leaves zero.

    Returns:
        The intensities with ``on_frontier``, ``dominated_by`` (a place in this table; -1 for none) and
        ``mean_deciding_loss``, the accuracy loss over all deciding cells together, which the curves are fitted to.
    """
    count = len(draws.intensities)
    by = [next((a for a in range(count) if a != b and _dominates(draws, a, b)), -1) for b in range(count)]
    return draws.intensities.assign(on_frontier=[a < 0 for a in by], dominated_by=by, mean_deciding_loss=draws.loss)


def _dominates(draws: Draws, a: int, b: int) -> bool:
    warmer, worse = draws.warmth[a] - draws.warmth[b], draws.loss[a] - draws.loss[b]
    if not (warmer >= 0 and worse <= 0):
        return False
    surely_warmer = np.nanpercentile(draws.drawn_warmth[:, a] - draws.drawn_warmth[:, b], 2.5) > 0
    surely_better = np.nanpercentile(draws.drawn_loss[:, a] - draws.drawn_loss[:, b], 97.5) < 0
    return bool(surely_warmer or surely_better)


def at_equal_warmth(draws: Draws) -> pd.DataFrame:
    """Compare every intensity of another arm or dose with the first trained arm *at the warmth it has*.

    Arms differ in how warm they are, so that a comparison knob by knob would credit the colder one. The trained arm's
    accuracy loss is interpolated linearly between its strengths.

    Returns:
        arm, dose, strength, warmth, than (the arm and dose compared with), more, more_low, more_high: the difference
        in accuracy loss, a share, with a 95 % interval. Intensities outside the trained arm's warmth are left out.
    """
    trained = draws.intensities[draws.intensities["dose"] > 0]
    columns = ["arm", "dose", "strength", "warmth", "than", "more", "more_low", "more_high"]
    if trained.empty:
        return pd.DataFrame(columns=columns)
    first = trained.iloc[0]
    curve = trained.index[(trained["arm"] == first["arm"]) & (trained["dose"] == first["dose"])].to_numpy()
    low, high = np.nanmin(draws.warmth[curve]), np.nanmax(draws.warmth[curve])
    rows = []
    for other in draws.intensities.index.difference(curve):
        warmth, loss = draws.warmth[other], draws.loss[other]
        if not low <= warmth <= high or draws.intensities.loc[other, "strength"] == 0:
            continue
        # The difference as measured, and in every draw of questions and prompts.
        value = loss - _interpolated(warmth, draws.warmth[curve], draws.loss[curve])
        drawn = [
            losses[other] - _interpolated(warmths[other], warmths[curve], losses[curve])
            for warmths, losses in zip(draws.drawn_warmth, draws.drawn_loss, strict=True)
        ]
        ends = np.nanpercentile(drawn, [2.5, 97.5])
        rows.append(
            draws.intensities.loc[other].to_dict()
            | {"warmth": warmth, "than": f"{first['arm']}, dose {first['dose']:g}", "more": value}
            | {"more_low": min(ends[0], value), "more_high": max(ends[1], value)}
        )
    return pd.DataFrame(rows, columns=columns)


def _interpolated(at: float, warmth: np.ndarray, loss: np.ndarray) -> float:
    """Return the accuracy loss at a warmth, on straight lines between the strengths of an adapter."""
    order = np.argsort(warmth)
    return float(np.interp(at, warmth[order], loss[order]))
