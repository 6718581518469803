"""Which examples each optimizer step takes: a pure function of seed and step, so that a resume is exact."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Shuffled passes over ``num_examples``, cut into steps of ``batch_size`` examples.

    Passes follow each other without a gap, so that a batch may hold the end of one and the start of the next.
    """

    num_examples: int
    batch_size: int
    doses: tuple[float, ...]
    """Epochs after which an adapter is kept, ascending."""
    seed: int

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training (1-based steps run from 1 to this)."""
        return self.step_of_dose(self.doses[-1])

    def step_of_dose(self, dose: float) -> int:
        """Return the step after which ``dose`` epochs are done, rounded up to a whole step."""
        return max(1, math.ceil(dose * self.num_examples / self.batch_size))

    def epoch_at(self, step: int) -> float:
        """Return how many epochs are done after ``step`` steps."""
        return step * self.batch_size / self.num_examples

    def batch(self, step: int) -> list[int]:
        """Return the example indices of one step (1-based)."""
        positions = range((step - 1) * self.batch_size, step * self.batch_size)
        orders: dict[int, list[int]] = {}
        return [self._order(p // self.num_examples, orders)[p % self.num_examples] for p in positions]

    def _order(self, epoch: int, orders: dict[int, list[int]]) -> list[int]:
        if epoch not in orders:
            order = list(range(self.num_examples))
            random.Random(f"{self.seed}-{epoch}").shuffle(order)
            orders[epoch] = order
        return orders[epoch]
