"""The search space: every arm, dose and strength that a configuration names, and the arms that are only instructed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from warmray.config import Arm, RunConfig

INSTRUCTED: dict[str, Arm] = {"warm_prompt": "warm", "cold_prompt": "cold"}
"""The arms of a system prompt instead of a training, and the variant whose prompt it is."""


@dataclass(frozen=True, order=True)
class Intensity:
    """One setting of the sweep. Strength 0 is the original model, whatever arm and dose stand beside it.

    An arm that is only instructed has dose 0, and strength 1 for its prompt.
    """

    arm: str
    dose: float
    strength: float

    @property
    def instruction(self) -> Arm | None:
        """The variant whose system prompt the original model is given; None for what is trained."""
        return INSTRUCTED.get(self.arm)

    @property
    def name(self) -> str:
        """A short name for runs and progress."""
        return self.arm if self.dose == 0 else f"{self.arm}-{self.dose:g}ep-x{self.strength:g}"


ORIGINAL = Intensity("original", 0.0, 0.0)
"""Stands alone where a sweep trains nothing."""


def trained_intensities(config: RunConfig) -> list[Intensity]:
    """Return the intensities that have an adapter, those of one training together; none if 0 is all there is."""
    if not any(config.sweep.strengths):
        return []
    space = product(config.train.arms, config.train.doses, config.sweep.strengths)
    return [Intensity(arm, dose, strength) for arm, dose, strength in space]


def instructed_intensities(config: RunConfig) -> list[Intensity]:
    """Return the arms of a sweep that are only instructed."""
    wanted = config.sweep.system_prompts
    return [Intensity(arm, 0.0, 1.0) for arm, variant in INSTRUCTED.items() if variant in wanted]


def distinct_models(intensities: Iterable[Intensity]) -> list[Intensity]:
    """Return the intensities, only one of them at strength 0: there all arms and doses are the same original model."""
    every = list(intensities)
    originals = [intensity for intensity in every if intensity.strength == 0]
    return originals[:1] + [intensity for intensity in every if intensity.strength != 0]
