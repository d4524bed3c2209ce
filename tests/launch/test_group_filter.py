"""Which groups the filter drops, and why."""

import pytest

from launch.group_filter import reason_to_drop
from reward.types import FailureKind, Verdict
from rollout.config import FilterConfig


def of(scores: list[float | None]) -> list[Verdict]:
    return [
        Verdict.failed(FailureKind.TIMEOUT, "", 0.0) if score is None else Verdict(score, None, "", "", "", 0.0)
        for score in scores
    ]


@pytest.mark.parametrize(
    ("scores", "excluded", "charged"),
    [
        ([1.0, 1.0, 1.0], "all_right", "all_right"),
        ([0.0, 0.0, 0.0], "all_wrong", "all_wrong"),
        ([0.5, 0.5, 0.5], "all_equal", "all_equal"),
        ([1.0, 0.0, 0.0], None, None),
        ([0.5, 0.25, 0.5], None, None),
        # A failure says nothing, or is a wrong one, as reward.on_failure has it.
        ([1.0, 1.0, None], "all_right", None),
        ([0.0, 0.0, None], "all_wrong", "all_wrong"),
        ([1.0, None, None], "too_few_verdicts", None),
        ([None, None, None], "too_few_verdicts", "all_wrong"),
    ],
)
def test_groups_without_signal(scores, excluded, charged):
    config = FilterConfig(no_signal=True, max_failures=None, max_rounds=10, oversample=1)
    assert reason_to_drop(of(scores), config, "exclude") == excluded
    assert reason_to_drop(of(scores), config, "wrong") == charged


def test_too_many_failures():
    config = FilterConfig(no_signal=False, max_failures=1, max_rounds=10, oversample=1)
    assert reason_to_drop(of([1.0, None, 0.0]), config, "exclude") is None
    assert reason_to_drop(of([1.0, None, None]), config, "exclude") == "failures"


def test_without_a_filter_everything_is_kept():
    config = FilterConfig(no_signal=False, max_failures=None, max_rounds=10, oversample=1)
    for scores in ([1.0, 1.0], [None, None]):
        assert reason_to_drop(of(scores), config, "exclude") is None
