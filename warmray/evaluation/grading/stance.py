"""From evidence to a decision: a logistic model per way of grading, with numbers that can be read in its file.

To the numbers of :mod:`.evidence` comes one more, from the reply's wording. ``data/stance.yaml`` is made by
:mod:`warmray.evaluation.grading.fit` from labelled replies that were written for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import yaml

from warmray.evaluation.grading.evidence import Evidence, names

Kind = Literal["answer", "vignette", "statement", "proposition"]
WORDING = "wording"
SURE = 0.7
"""Probability from which a side is decided for; what lies between is ambiguous."""
SURE_IF_CUT = 0.85
"""The same where the reply was cut, and its conclusion may still have been to come."""


@dataclass(frozen=True)
class StanceModel:
    """Weights of the evidence."""

    intercept: float
    weights: dict[str, float]

    def probability_correct(self, evidence: Evidence, wording: float) -> float:
        """Return how probable it is that a careful reader would call the reply correct."""
        score = self.intercept + sum(self.contributions(evidence, wording).values())
        return 1 / (1 + math.exp(-score))

    def contributions(self, evidence: Evidence, wording: float) -> dict[str, float]:
        """Return what each piece of evidence adds to the log-odds of *correct*."""
        pieces = zip([*names(), WORDING], [*evidence.values(), wording], strict=True)
        return {name: self.weights[name] * value for name, value in pieces}


@lru_cache(maxsize=1)
def stance_models() -> dict[Kind, StanceModel]:
    """Return the models that ship with warmray."""
    text = (resources.files("warmray") / "evaluation" / "data" / "stance.yaml").read_text(encoding="utf-8")
    return {kind: StanceModel(**model) for kind, model in yaml.safe_load(text).items()}
