from rollout.watch import Watch


def test_an_engine_is_silent_when_its_figure_has_not_changed_for_the_limit():
    now = [100.0]
    watch = Watch([0, 1], 10.0, lambda: now[0])
    now[0] = 108.0
    watch.heard(0, 5)
    watch.heard(1, 0)
    now[0] = 115.0
    watch.heard(0, 5)  # the same as before
    watch.heard(1, 1)
    assert not watch.silent(0)
    now[0] = 118.5
    assert watch.silent(0)
    assert not watch.silent(1)


def test_one_that_is_never_heard_of_has_the_limit_from_the_start():
    now = [0.0]
    watch = Watch([3], 10.0, lambda: now[0])
    now[0] = 10.0
    assert not watch.silent(3)
    now[0] = 10.1
    assert watch.silent(3)
