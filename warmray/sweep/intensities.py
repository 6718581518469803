"""The search space: every arm, dose and strength that a configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from warmray.config import Arm, RunConfig


@dataclass(frozen=True, order=True)
class Intensity:
    """One setting of the sweep. Strength 0 is the original model, whatever arm and dose stand beside it."""

    arm: Arm
    dose: float
    strength: float

    @property
    def name(self) -> str:
        """A short name for runs and progress."""
        return f"{self.arm}-{self.dose:g}ep-x{self.strength:g}"


def intensities_of(config: RunConfig) -> list[Intensity]:
    """Return the intensities of a sweep; those of one training stand together."""
    space = product(config.train.arms, config.train.doses, config.sweep.strengths)
    return [Intensity(arm, dose, strength) for arm, dose, strength in space]
