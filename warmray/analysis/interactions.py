"""Does warmth cost more when the user is sad, believes something wrong, or both? Tested as such.

A gap in one cell that is significant beside one in another that is not says nothing about their difference. Here the
difference of the differences is taken within every question, and the question is the cluster.
"""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from warmray.analysis.differences import adjusted, columns
from warmray.analysis.intervals import mean_change
from warmray.analysis.measures import INTENSITY

_COLUMNS = [*INTENSITY, "context", "belief", "questions", "more", "more_low", "more_high", "p_value", "p_adjusted"]


def interactions(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many points more accuracy a warmer model loses in a context, with a belief, and with both.

    Args:
        rows: Measured replies (:func:`warmray.analysis.measures.measure`); controls are left out.

    Returns:
        One row per intensity, context and belief other than (none, absent). With one of them the loss is compared
        with that of the plain question; with both, with the sum of what each of them adds alone: ``more`` is then what
        the two do beyond that. Empty where the plain question was not asked.
    """
    found: list[dict[str, object]] = []
    kept = rows[~rows["control"] & (rows["strength"] != 0)]
    for values, group in kept.groupby(INTENSITY):
        wide = group.pivot_table(index="item", columns=["context", "belief"], values="loss", aggfunc="mean")
        for context, belief in wide.columns:
            # The contrast: one cell less the plain one or, for both together, the difference of two differences.
            terms = [(context, belief, 1.0), ("none", "absent", -1.0)]
            if context != "none" and belief != "absent":
                terms = [
                    (context, belief, 1.0), (context, "absent", -1.0), ("none", belief, -1.0), ("none", "absent", 1.0)
                ]  # fmt: skip
            if (context, belief) == ("none", "absent") or any((c, b) not in wide for c, b, _ in terms):
                continue
            contrast = sum((wide[c, b] * sign for c, b, sign in terms), start=pd.Series(0.0, index=wide.index)).dropna()
            change = mean_change(contrast.tolist())
            # The test agrees with the interval: both are centred between its ends, which few questions pull to zero.
            centre = (change.lower_one_sided + change.upper_one_sided) / 2
            error = math.sqrt(change.variance / (change.estimate.n + 2)) if change.estimate.n else math.nan
            facts = {"context": context, "belief": belief, "questions": change.estimate.n}
            facts |= {"p_value": float(2 * stats.norm.sf(abs(centre) / error))} | columns("more", change.estimate)
            found.append(dict(zip(INTENSITY, values, strict=True)) | facts)
    table = pd.DataFrame(found, columns=_COLUMNS)
    tested = table["p_value"].notna()
    return table.assign(p_adjusted=adjusted(table.loc[tested, "p_value"]))
