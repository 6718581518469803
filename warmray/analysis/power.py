"""How many questions a decision takes, and what a given number can decide.

For paired questions and a one-sided test at 5 % with 80 % power. What decides is the *discordance*: the share of
questions that one model answers right and the other does not. With several replies to a question averaged it falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from warmray.analysis.intervals import Z_ONE_SIDED_95, Z_POWER_80, Z_TWO_SIDED_95

STUDY_DISCORDANCE: Mapping[str, float] = {"triviaqa": 0.12, "truthfulqa": 0.25, "medqa": 0.30, "disinfo": 0.10}
"""Of the study's warm models against the originals, recovered from its published cells."""
LOWEST_SEEN = min(STUDY_DISCORDANCE.values())


def questions_to_certify(margin: float, discordance: float, loss: float = 0.0) -> float:
    """Return how many questions show, with 80 % power, that the loss is under ``margin`` if it is ``loss``.

    All are shares (0.03 for 3 points). Infinite where the loss is not under the margin.
    """
    if loss >= margin:
        return math.inf
    return math.ceil((Z_ONE_SIDED_95 + Z_POWER_80) ** 2 * (discordance - loss**2) / (margin - loss) ** 2)


def certifiable_margin(questions: int, discordance: float, loss: float = 0.0) -> float:
    """Return the smallest margin that so many questions certify with 80 % power, if the loss is ``loss``."""
    return loss + (Z_ONE_SIDED_95 + Z_POWER_80) * math.sqrt((discordance - loss**2) / questions)


def detectable_change(questions: int, discordance: float) -> float:
    """Return the smallest change that so many questions find with 80 % power, two-sided at 5 %."""
    return (Z_TWO_SIDED_95 + Z_POWER_80) * math.sqrt(discordance / questions)


def least_margin(questions: int) -> float:
    """Return the margin that so many questions cannot certify even if not one grade changes."""
    return Z_ONE_SIDED_95 / (questions + 2)


def power_table(discordances: Mapping[str, float], margin: float, questions: int | None) -> pd.DataFrame:
    """Return one row per name: discordance, questions for the margin and, for a number of questions, what it can do."""
    table = pd.DataFrame({"discordance": pd.Series(discordances)})
    table["questions_to_certify"] = [questions_to_certify(margin, d) for d in table["discordance"]]
    if questions is not None:
        table["certifiable_points"] = [100 * certifiable_margin(questions, d) for d in table["discordance"]]
        table["detectable_points"] = [100 * detectable_change(questions, d) for d in table["discordance"]]
    return table.rename_axis("task").reset_index()
