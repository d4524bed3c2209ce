"""The arithmetic of the soak."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.resilience import soak
from tests.resilience.actors import KINDS
from tests.resilience.soak import EACH, WARM_UP_STEPS, kept, planned, slope


def test_growth_is_that_of_each_process_after_its_warm_up():
    first = [(step, 100 + 0.03 * step) for step in range(60)]
    # Another level, and a warm-up that would be growth.
    second = [(step, 40.0 if step < 70 else 500 + 0.03 * step) for step in range(60, 60 + WARM_UP_STEPS + 40)]
    second = [(step, size) for step, size in second if size > 40 or step < 70]
    assert slope([first, second]) == pytest.approx(3.0)
    assert slope([[(0, 1.0), (1, 9.0)]]) == 0.0
    # What it holds while it ends is no growth.
    assert slope([[*first, (59, 900.0)]]) == pytest.approx(3.0)


def test_every_kind_is_killed_and_the_end_is_left_alone():
    plan = planned(300, 13, seed=0)
    assert len(plan) == 13
    assert min(Counter(kill.kind for kill in plan).values()) >= EACH
    assert set(KINDS) == {kill.kind for kill in plan}
    assert [kill.after for kill in plan] == sorted({kill.after for kill in plan})
    assert plan[-1].after < 150
    assert planned(300, 13, seed=0) == plan != planned(300, 13, seed=1)


def test_what_a_start_of_all_actors_anew_leaves_is_what_is_held_in_steps_before_and_after():
    # Step 7 was lost and 6 was the checkpoint's: what is held there is of actors that end or start.
    before = [(6, 100.0), (7, 500.0), (7, 500.0)]
    after = [(6, 900.0), (7, 112.0), (8, 112.0)]
    assert kept(before, after) == 12.0
    assert kept(before, after[:1]) is None


class Samples:
    """In place of the event that ends the watching: `number` samples are taken."""

    def __init__(self, number: int):
        self._left = number

    def wait(self, _seconds: float) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_driver_that_starts_all_actors_anew_is_another_process_to_the_slope(monkeypatch):
    # The ranks at each sample: both, one is lost, both ended, one of the new ones, both, those of the next driver.
    ranks = [{1, 2}, {1}, set(), {4}, {4, 5}, {4, 5}, {7, 8}, {7, 8}]
    drivers = [3, 3, 3, 3, 3, 3, 6, 6]
    steps = [10, 11, 11, 10, 10, 11, 11, 12]
    there = iter(
        [
            {"learner": [SimpleNamespace(pid=pid) for pid in sorted(pids)], "driver": [SimpleNamespace(pid=driver)]}
            for pids, driver in zip(ranks, drivers, strict=True)
        ]
    )
    rows, sizes = ([{"step": step}] for step in steps), iter([100, 105, 300, 400, 400, 112, 50, 50])
    monkeypatch.setattr(soak, "actors", lambda mark: next(there))
    monkeypatch.setattr(soak, "read_metrics", lambda folder: next(rows))
    monkeypatch.setattr(soak, "_anonymous_mb", lambda pid: next(sizes) if pid in drivers else 1.0)
    memory = soak.Memory(Path("unused"), "mark", over=Samples(len(ranks)))
    memory.watch()
    lives = {key[1:]: points for key, points in memory.seen.items() if key[0] == "driver"}
    assert lives == {
        (3, 1): [(10, 100), (11, 105), (11, 300)],
        (3, 2): [(10, 400), (10, 400), (11, 112)],
        (6, 3): [(11, 50), (12, 50)],
    }
    assert memory.kept() == [12.0]
    assert (memory.processes("driver"), memory.processes("learner")) == (2, 6)
