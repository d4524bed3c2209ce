"""The step clock: every second of a step belongs to exactly one phase."""

import pytest

from launch.phases import PHASES, Phases, learner_idle_share


class Clock:
    """A clock that a test moves by hand; multiples of 1/8 s, so that sums are exact in binary."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_second_of_a_step_is_in_one_phase_or_in_other():
    clock = Clock()
    phases = Phases(clock)
    clock.now += 0.5
    with phases("generate"):
        clock.now += 4.0
    clock.now += 0.25
    with phases("verify"):
        clock.now += 1.0
    with phases("generate"):
        clock.now += 2.125
    row = phases.row()

    assert row["time/generate_s"] == 6.125
    assert row["time/verify_s"] == 1.0
    assert row["time/other_s"] == 0.75
    assert row["time/step_s"] == 7.875
    assert sum(row[f"time/{phase}_s"] for phase in (*PHASES, "other")) == row["time/step_s"]


def test_a_phase_that_was_not_entered_takes_no_time_but_is_named():
    row = Phases(Clock()).row()
    assert set(row) == {f"time/{phase}_s" for phase in (*PHASES, "other", "step")}
    assert set(row.values()) == {0.0}


def test_the_next_step_starts_at_zero_where_the_last_one_ended():
    clock = Clock()
    phases = Phases(clock)
    with phases("update"):
        clock.now += 3.0
    phases.row()
    clock.now += 1.0
    with phases("sync"):
        clock.now += 0.5
    row = phases.row()
    assert (row["time/update_s"], row["time/sync_s"], row["time/other_s"], row["time/step_s"]) == (0.0, 0.5, 1.0, 1.5)


def test_phases_do_not_nest_and_the_outer_one_goes_on():
    clock = Clock()
    phases = Phases(clock)
    with phases("update"):
        with pytest.raises(RuntimeError, match="'verify' was entered inside phase 'update'"), phases("verify"):
            pass
        clock.now += 2.0
    assert phases.row()["time/update_s"] == 2.0


def test_a_phase_that_raises_is_closed_and_counted():
    clock = Clock()
    phases = Phases(clock)

    def lose_connection():
        clock.now += 0.5
        raise ConnectionError

    with pytest.raises(ConnectionError), phases("sync"):
        lose_connection()
    assert phases.row()["time/sync_s"] == 0.5


def test_a_step_cannot_end_inside_a_phase():
    phases = Phases(Clock())
    with phases("save"), pytest.raises(RuntimeError, match="inside phase 'save'"):
        phases.row()


def test_an_unknown_phase_is_refused_by_name():
    with pytest.raises(ValueError, match="'rollout'; the phases are generate, verify"), Phases(Clock())("rollout"):
        pass


def test_who_had_nothing_to_do_for_how_long():
    clock = Clock()
    phases = Phases(clock)
    for phase, seconds in (("generate", 4.0), ("verify", 1.0), ("old_logprobs", 0.5), ("update", 1.5), ("sync", 0.5)):
        with phases(phase):
            clock.now += seconds
    clock.now += 0.5
    # Of 8 s it scores, updates and sends for 2.5.
    assert learner_idle_share(phases.row()) == {"speed/learner_idle_share": 5.5 / 8}
    assert learner_idle_share(phases.row()) == {}
