"""The arithmetic of the soak."""

from collections import Counter

import pytest

from tests.resilience.actors import KINDS
from tests.resilience.soak import EACH, WARM_UP_STEPS, planned, slope


def test_growth_is_that_of_each_process_after_its_warm_up():
    first = [(step, 100 + 0.03 * step) for step in range(60)]
    # Another level, and a warm-up that would be growth.
    second = [(step, 40.0 if step < 70 else 500 + 0.03 * step) for step in range(60, 60 + WARM_UP_STEPS + 40)]
    second = [(step, size) for step, size in second if size > 40 or step < 70]
    assert slope([first, second]) == pytest.approx(3.0)
    assert slope([[(0, 1.0), (1, 9.0)]]) == 0.0


def test_every_kind_is_killed_and_the_end_is_left_alone():
    plan = planned(300, 13, seed=0)
    assert len(plan) == 13
    assert min(Counter(kill.kind for kill in plan).values()) >= EACH
    assert set(KINDS) == {kill.kind for kill in plan}
    assert [kill.after for kill in plan] == sorted({kill.after for kill in plan})
    assert plan[-1].after < 225
    assert planned(300, 13, seed=0) == plan != planned(300, 13, seed=1)
