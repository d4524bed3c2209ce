"""The arithmetic of the soak."""

from collections import Counter

import pytest

from tests.resilience.actors import KINDS
from tests.resilience.soak import EACH, WARM_UP_STEPS, kept, planned, slope


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


def test_what_a_start_of_all_actors_anew_leaves_is_what_is_held_in_steps_before_and_after():
    # Step 7 was lost and 6 was the checkpoint's: what is held there is of actors that end or start.
    before = [(5, 100.0), (6, 100.0), (7, 500.0)]
    after = [(6, 900.0), (7, 112.0), (8, 112.0)]
    assert kept(before, after) == 12.0
    assert kept(before, after[:1]) is None
