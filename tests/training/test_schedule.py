from collections import Counter

import pytest

from warmray.training.schedule import Schedule


def test_every_example_is_seen_once_per_epoch():
    schedule = Schedule(num_examples=20, batch_size=8, doses=(2.0,), seed=0)
    seen = Counter(index for step in range(1, schedule.total_steps + 1) for index in schedule.batch(step))
    assert schedule.total_steps == 5
    assert set(seen.values()) == {2}


def test_a_step_does_not_depend_on_the_steps_before_it():
    one, other = (Schedule(20, 8, (3.0,), 7) for _ in range(2))
    for step in range(1, 5):
        one.batch(step)
    assert one.batch(5) == other.batch(5)


def test_different_seeds_shuffle_differently():
    assert Schedule(50, 8, (1.0,), 0).batch(1) != Schedule(50, 8, (1.0,), 1).batch(1)


@pytest.mark.parametrize(("dose", "step"), [(0.5, 2), (1.0, 3), (1.5, 4), (0.01, 1)])
def test_a_dose_ends_at_the_first_whole_step_that_reaches_it(dose, step):
    assert Schedule(20, 8, (2.0,), 0).step_of_dose(dose) == step
