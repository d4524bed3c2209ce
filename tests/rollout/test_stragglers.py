from rollout.stragglers import Stragglers

KEYS = [(number, 0) for number in range(6)]


def test_what_takes_longer_than_the_factor_times_the_median_is_late_the_oldest_first():
    stragglers = Stragglers(factor=2.0, window=3)
    stragglers.begun(KEYS[:5], 100.0)
    stragglers.begun(KEYS[5:], 101.0)
    for key, then in zip(KEYS[:3], (101.0, 104.0, 110.0), strict=True):
        stragglers.ended(key, 0, then)
    # They took 1, 4 and 10 s: 8 s are the limit.
    assert stragglers.late(108.0) == []
    assert stragglers.late(108.5) == KEYS[3:5]
    assert stragglers.late(109.5) == KEYS[3:]


def test_nothing_is_late_as_long_as_too_few_have_ended():
    stragglers = Stragglers(factor=2.0, window=3)
    stragglers.begun(KEYS, 0.0)
    for key in KEYS[:2]:
        stragglers.ended(key, 0, 1.0)
    assert stragglers.late(1000.0) == []


def test_the_latest_count_and_those_before_are_forgotten():
    stragglers = Stragglers(factor=2.0, window=2)
    stragglers.begun(KEYS, 0.0)
    for key, then in zip(KEYS, (1.0, 1.0, 20.0, 40.0), strict=False):
        stragglers.ended(key, 0, then)
    # The median of the latest two is 30 s.
    assert stragglers.late(60.0) == []
    assert stragglers.late(60.5) == KEYS[4:]


def test_what_is_asked_for_once_more_begins_then():
    stragglers = Stragglers(factor=2.0, window=1)
    stragglers.begun(KEYS[:3], 0.0)
    stragglers.ended(KEYS[0], 0, 5.0)
    stragglers.begun(KEYS[1:2], 8.0)
    assert stragglers.late(11.0) == [KEYS[2]]
