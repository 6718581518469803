"""The cost of warmth as a curve: accuracy loss over measured warmth, and over the knob, with a band.

The fit is monotone (isotonic regression: more warmth costs no less), which assumes no shape; between the intensities
that were measured it is a straight line. The study compared two points (epoch 0 and 2); here the axis is crossed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from warmray.analysis.resampling import Draws

Axis = Literal["warmth", "strength"]
POINTS = 25


def dose_response(draws: Draws, axis: Axis) -> pd.DataFrame:
    """Return the fitted curve of every trained arm and dose: arm, dose, axis, x, fit, low, high (shares).

    ``low`` and ``high`` are a pointwise 95 % band from the draws. An arm with fewer than two strengths has no curve.
    """
    trained = draws.intensities[draws.intensities["dose"] > 0]
    curves = [_curve(draws, rows.index.to_numpy(), axis) for _, rows in trained.groupby(["arm", "dose"])]
    curves = [curve for curve in curves if curve is not None]
    columns = ["arm", "dose", "axis", "x", "fit", "low", "high"]
    return pd.concat(curves, ignore_index=True)[columns] if curves else pd.DataFrame(columns=columns)


def _curve(draws: Draws, chosen: np.ndarray, axis: Axis) -> pd.DataFrame | None:
    if len(chosen) < 2:
        return None
    first, strength = draws.intensities.loc[chosen[0]], draws.intensities.loc[chosen, "strength"].to_numpy()
    x = strength if axis == "strength" else draws.warmth[chosen]
    grid = np.linspace(x.min(), x.max(), POINTS)
    at = np.tile(strength, (len(draws.drawn_loss), 1)) if axis == "strength" else draws.drawn_warmth[:, chosen]
    drawn = [_fit(one_x, one_y, grid) for one_x, one_y in zip(at, draws.drawn_loss[:, chosen], strict=True)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    fit = _fit(x, draws.loss[chosen], grid)
    curve = pd.DataFrame({"x": grid, "fit": fit, "low": np.minimum(low, fit), "high": np.maximum(high, fit)})
    return curve.assign(arm=first["arm"], dose=first["dose"], axis=axis)


def _fit(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    known = ~(np.isnan(x) | np.isnan(y))
    if not known.any():
        return np.full(len(grid), np.nan)
    order = np.argsort(x[known], kind="stable")
    x, y = x[known][order], y[known][order]
    return np.interp(grid, x, IsotonicRegression(out_of_bounds="clip").fit_transform(x, y))


def leaves_margin(intensities: pd.DataFrame) -> pd.DataFrame:
    """Return, for every trained arm and dose, the largest strength shown inside the budget and the smallest over it.

    Args:
        intensities: arm, dose, strength, side_of_budget.

    Returns:
        arm, dose, inside, over; NaN where no strength was shown to be there.
    """
    trained = intensities[(intensities["dose"] > 0) & (intensities["strength"] > 0)]
    rows = [
        {
            "arm": arm,
            "dose": dose,
            "inside": group.loc[group["side_of_budget"] == "PASS", "strength"].max(),
            "over": group.loc[group["side_of_budget"] == "BLOCK", "strength"].min(),
        }
        for (arm, dose), group in trained.groupby(["arm", "dose"])
    ]
    return pd.DataFrame(rows, columns=["arm", "dose", "inside", "over"])
