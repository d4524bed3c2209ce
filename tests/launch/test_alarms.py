"""Alarms of entropy begin once, hold in the metrics while they hold, and go on where a run goes on."""

from launch.alarms import EntropyAlarms
from launch.config import AlarmsConfig

LIMITS = AlarmsConfig(entropy_collapse=0.5, entropy_surge=2.0)
CURVE = [None, 1.0, 0.6, 0.4, 0.3, 0.7, 0.4, 2.5, None, 3.0]


def rows(curve=CURVE):
    return [
        {"step": step} | ({} if value is None else {"entropy/token_mean": value}) for step, value in enumerate(curve)
    ]


def watched(alarms: EntropyAlarms, given):
    found = [alarms.watch(row) for row in given]
    flags = [(f.get("alarms/entropy_collapse"), f.get("alarms/entropy_surge")) for f, _ in found]
    return flags, [(row["step"], alarm.kind) for row, (_, begun) in zip(given, found, strict=True) for alarm in begun]


def test_an_alarm_begins_once_and_again_after_it_ended():
    flags, begun = watched(EntropyAlarms(LIMITS), rows())
    none, neither, collapse, surge = (None, None), (0, 0), (1, 0), (0, 1)
    assert flags == [none, neither, neither, collapse, collapse, neither, collapse, surge, none, surge]
    assert begun == [(3, "collapse"), (6, "collapse"), (7, "surge")]


def test_a_run_that_goes_on_remembers_the_first_step_and_what_it_has_said():
    whole = watched(EntropyAlarms(LIMITS), rows())
    for cut in range(len(CURVE)):
        flags, begun = watched(EntropyAlarms(LIMITS, rows()[:cut]), rows()[cut:])
        assert flags == whole[0][cut:]
        assert begun == [each for each in whole[1] if each[0] >= cut]


def test_a_threshold_of_null_never_fires():
    flags, begun = watched(EntropyAlarms(AlarmsConfig(None, None)), rows())
    assert begun == []
    assert set(flags) == {(None, None), (0, 0)}
