"""Time and tokens of engines, by a clock that the test moves."""

import pytest

from rollout.engine_times import EngineTimes


@pytest.fixture
def now() -> list[float]:
    return [100.0]


def test_tokens_are_by_the_time_an_engine_had_something_to_draw(now):
    times = EngineTimes(2, lambda: now[0])
    now[0] += 4  # nobody has anything
    times.spent([False, False])
    now[0] += 4  # both draw
    times.spent([True, True])
    times.drew(0, 30)
    times.drew(1, 100)
    times.drew(0, 10)
    now[0] += 8  # engine 0 goes on alone
    times.spent([True, False])
    times.drew(0, 80)
    assert times.row() == {
        "speed/engines_idle_share": (4 + 4 + 8) / (2 * 16),
        "speed/engine_tokens_per_s.0": 120 / 12,
        "speed/engine_tokens_per_s.1": 100 / 4,
    }


def test_each_row_begins_anew_where_the_last_one_ended(now):
    times = EngineTimes(2, lambda: now[0])
    now[0] += 2
    times.spent([True, True])
    times.drew(0, 7)
    times.drew(1, 9)
    times.row()
    now[0] += 5
    times.spent([True, False])
    times.drew(0, 20)
    # Of an engine that had nothing to draw there is no speed.
    assert times.row() == {"speed/engines_idle_share": 0.5, "speed/engine_tokens_per_s.0": 4.0}


def test_without_time_there_is_no_figure(now):
    times = EngineTimes(1, lambda: now[0])
    times.spent([True])
    times.drew(0, 5)
    assert times.row() == {}
