"""Late responses drawn by two engines: the real collector, engines that answer on order, and a clock of the test."""

import random
import threading
import time
from collections.abc import Iterator

import pytest

from rollout.collector import Collector
from rollout.stragglers import Stragglers
from rollout.stream import GroupStream
from tests.rollout.fake_engines import FakeEngines, prompt
from tests.rollout.test_collector import SAMPLES, batch, in_the_background, keep_all, uids, until
from tests.rollout.test_stream import Source

PER_STEP = 4
PER_BATCH = PER_STEP * SAMPLES


class Late:
    """A collector whose first batch took 10 s a response, and whose second one an engine does not finish."""

    def __init__(self, factor: float = 3.0):
        self.now = 0.0
        self.engines = FakeEngines(2, eager=False)
        stream = GroupStream(PER_STEP, 0, 99, True, True, 9, 1, Source(PER_STEP))
        self.collector = Collector(
            self.engines,
            stream,
            prompt,
            SAMPLES,
            7,
            keep_all,
            False,
            0,
            1e9,
            Stragglers(factor, PER_BATCH),
            clock=lambda: self.now,
        )
        self.collector.start()
        self.begin()
        self.end(0)
        self.end(1)
        self.batch()
        with self.collector.weights_change(1):
            self.engines.update(1)

    def begin(self) -> None:
        """Wait for the next batch from now on, in the background. Engines have been drawing it for 10 s."""
        self.found: list = []
        self._waiting = in_the_background(lambda: self.found.append(batch(self.collector)))
        until(lambda: self.engines.has(0) == self.engines.has(1) == PER_BATCH // 2)
        self.now += 10

    def end(self, engine: int, keep: int = 0) -> None:
        """The engine ends all but `keep`, and the collector has heard of it."""
        self.engines.draw(engine, keep)
        until(lambda: self.collector._assigned.owed(engine) == keep)

    def batch(self):
        self._waiting.join(20)
        return self.found[0]


@pytest.fixture
def late() -> Iterator[Late]:
    made = Late()
    yield made
    made.collector.close()


def hedged(late: Late) -> list:
    """Key and seed of what the second batch had drawn twice, as asked for first and then."""
    given = [(key, request.seed) for _, _, key, request in late.engines.submitted[PER_BATCH:]]
    return [entry for entry in given if given.count(entry) > 1]


def test_an_idle_engine_draws_what_takes_too_long_with_the_same_seed_and_the_first_to_end_counts(late):
    late.begin()
    late.end(0)
    late.end(1, keep=2)
    late.now += 20
    time.sleep(0.3)
    # Three times the median of 10 s, to the second.
    assert late.engines.has(0) == 0
    late.now += 1
    until(lambda: late.engines.has(0) == 2)
    again = hedged(late)
    assert len(again) == 4
    assert len(set(again)) == 2
    late.end(0)
    found = late.batch()
    assert uids(found) == ["4", "5", "6", "7"]
    assert late.engines.called_off == [(1, key) for key, _ in again[2:]]
    drawn_by = [response.engine for group in found.groups for response in group.payload.responses]
    assert sorted(drawn_by) == [0] * 8 + [1] * 4
    figures = late.collector.figures()
    assert (figures["speed/hedges"], figures["speed/hedges_won"]) == (2, 2)
    # Nothing is being drawn when weights change.
    with late.collector.weights_change(2):
        assert late.engines.has(0) + late.engines.has(1) == 0
    assert not any(word.startswith("replace") for word in late.engines.said)


def test_where_the_late_one_ends_first_after_all_the_copy_is_called_off(late):
    late.begin()
    late.end(0)
    late.end(1, keep=1)
    late.now += 31
    until(lambda: late.engines.has(0) == 1)
    late.engines.draw(1)
    assert len(late.batch().groups) == PER_STEP
    [(engine, _)] = late.engines.called_off
    assert engine == 0
    until(lambda: late.engines.has(0) == 0)
    figures = late.collector.figures()
    assert (figures["speed/hedges"], figures["speed/hedges_won"]) == (1, 0)
    with late.collector.weights_change(2):
        late.engines.update(2)
    assert not any(word.startswith("replace") for word in late.engines.said)


def test_a_busy_engine_draws_nothing_twice(late):
    late.begin()
    late.end(0, keep=1)
    late.end(1, keep=1)
    late.now += 100
    time.sleep(0.3)
    assert hedged(late) == []
    late.engines.draw(0)
    # Now it is idle.
    until(lambda: late.engines.has(0) == 1)
    late.end(0)
    assert len(late.batch().groups) == PER_STEP


def test_what_a_lost_engine_had_is_not_issued_again_where_another_one_draws_it(late):
    late.begin()
    late.end(0)
    late.end(1, keep=2)
    late.now += 31
    until(lambda: late.engines.has(0) == 2)
    late.engines.lose(1, "engine 1 hung: it drew no token for 5 s.")
    late.end(0)
    assert uids(late.batch()) == ["4", "5", "6", "7"]
    with late.collector.weights_change(2):
        late.engines.update(2)
    assert late.engines.said[-2:] == ["replace [1]", "connect"]
    assert [incarnation for _, incarnation, _, _ in late.engines.submitted if incarnation] == []


def test_while_an_engine_is_lost_nothing_is_drawn_twice(late):
    late.begin()
    late.engines.lose(1, "engine 1 died: killed.")
    until(lambda: 1 in late.collector._down)
    late.now += 100
    late.end(0, keep=1)
    time.sleep(0.3)
    assert late.engines.has(0) == 1
    assert hedged(late) == []
    late.end(0)
    until(lambda: late.engines.has(1) == PER_BATCH // 2)
    late.engines.draw(1)
    assert len(late.batch().groups) == PER_STEP


@pytest.mark.parametrize("seed", range(3))
def test_whatever_ends_first_and_whatever_is_lost_each_response_counts_once(seed):
    """Nearly everything is late, engines end what they have in any order, and some are lost."""
    draw = random.Random(seed)
    engines = FakeEngines(3, eager=False)
    stream = GroupStream(PER_STEP, 1, 8, True, True, 9, 1, Source(PER_STEP))
    collector = Collector(engines, stream, prompt, SAMPLES, 7, keep_all, False, 0, 30.0, Stragglers(1.001, window=1))
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.002):
            engine = draw.randrange(3)
            if draw.random() < 0.005:
                engines.lose(engine, f"engine {engine} died: killed.")
            elif engine not in engines.broken and (has := engines.has(engine)):
                engines.draw(engine, keep=draw.randrange(has))

    collector.start()
    living = in_the_background(live)
    hedges = 0
    try:
        for step in range(1, 9):
            found = batch(collector)
            assert uids(found) == [str(number) for number in range(4 * step - 4, 4 * step)]
            for group in found.groups:
                assert [r.sample for r in group.payload.responses] == list(range(SAMPLES))
            hedges += collector.figures()["speed/hedges"]
            with collector.weights_change(step):
                assert sum(engines.has(engine) for engine in range(3)) == 0
                engines.update(step)
    finally:
        over.set()
        living.join(20)
        collector.close()
    assert hedges > 0
    seeds = {key: request.seed for _, _, key, request in engines.submitted}
    assert all(request.seed == seeds[key] for _, _, key, request in engines.submitted)
