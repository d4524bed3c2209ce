"""Learning rates by hand."""

import pytest

from learner.schedule import learning_rate


def rates(schedule, warmup, total):
    return [learning_rate(schedule, 2.0, warmup, total, update) for update in range(total + 2)]


def test_constant():
    assert rates("constant", 0, 2) == [2.0, 2.0, 2.0, 2.0]


def test_warm_up_ends_at_the_peak():
    assert rates("constant", 4, 5) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]


def test_linear_reaches_zero_at_the_end_and_stays():
    assert rates("linear", 0, 4) == [2.0, 1.5, 1.0, 0.5, 0.0, 0.0]


def test_linear_after_warm_up():
    assert rates("linear", 2, 6) == [1.0, 2.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0]


def test_cosine():
    # 1 + cos of 0, 60, 120 and 180 degrees.
    assert rates("cosine", 0, 3) == pytest.approx([2.0, 1.5, 0.5, 0.0, 0.0])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_warm_up_as_long_as_the_run_never_divides_by_zero(schedule):
    assert rates(schedule, 3, 3)[:3] == pytest.approx([2 / 3, 4 / 3, 2.0])


def test_unknown_schedule_names_the_setting():
    with pytest.raises(ValueError, match=r"learner\.schedule is .*'step'"):
        learning_rate("step", 1.0, 0, 10, 0)
