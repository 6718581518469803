"""Which examples each optimizer step takes: a pure function of seed and step, which makes a resume exact."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Shuffled passes over ``num_examples``, cut into steps of ``batch_size`` examples.

    Passes follow each other without a gap: a batch may hold the end of one pass and the start of the next.
    """

    num_examples: int
    batch_size: int
    doses: tuple[float, ...]
    """Epochs after which an adapter is saved, ascending."""
    seed: int

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training; steps are numbered from 1 to this."""
        return self.step_of_dose(self.doses[-1])

    def step_of_dose(self, dose: float) -> int:
        """Return the step that completes ``dose`` epochs, rounded up to a whole step."""
        return max(1, math.ceil(dose * self.num_examples / self.batch_size))

    def epoch_at(self, step: int) -> float:
        """Return the number of epochs completed after ``step`` steps."""
        return step * self.batch_size / self.num_examples

    def batch(self, step: int) -> list[int]:
        """Return the example indices of one step (1-based)."""
        orders: dict[int, list[int]] = {}
        indices = []
        for position in range((step - 1) * self.batch_size, step * self.batch_size):
            epoch, place = divmod(position, self.num_examples)
            # Each epoch has its own shuffle, seeded by its number: no state survives from step to step.
            if epoch not in orders:
                orders[epoch] = list(range(self.num_examples))
                random.Random(f"{self.seed}-{epoch}").shuffle(orders[epoch])
            indices.append(orders[epoch][place])
        return indices
