import pytest

from reward.policy import OutcomeCounts, TooManyFailures, apply_failure_policy, count_outcomes
from reward.types import FailureKind, Outcome, Verdict


def scored(score, answer="7"):
    return Verdict(score=score, failure=None, answer=answer, rule="boxed", detail="", seconds=0.1)


def failed(kind):
    return Verdict.failed(kind, f"an example of {kind}", 0.1)


MIXED = [
    scored(1.0),
    scored(0.0),
    failed(FailureKind.CRASH),
    scored(0.25),
    scored(0.0, answer=None),
    failed(FailureKind.TIMEOUT),
    failed(FailureKind.TIMEOUT),
    scored(1.0),
]


def test_outcomes():
    assert [verdict.outcome for verdict in MIXED[:5]] == [
        Outcome.CORRECT,
        Outcome.WRONG,
        Outcome.FAILED,
        Outcome.WRONG,
        Outcome.UNPARSABLE,
    ]


def test_counts():
    counts = count_outcomes(MIXED)
    assert counts == OutcomeCounts(
        correct=2, wrong=2, unparsable=1, failures={FailureKind.TIMEOUT: 2, FailureKind.CRASH: 1}
    )
    assert (counts.failed, counts.total) == (3, 8)
    assert str(counts) == "correct 2, wrong 2, unparsable 1, failed 3 (timeout 2, crash 1)"
    assert str(count_outcomes(MIXED[:2])) == "correct 1, wrong 1, unparsable 0, failed 0"


def test_a_failure_is_excluded_and_not_a_zero():
    assert apply_failure_policy(MIXED, "exclude", 0.5) == [1.0, 0.0, None, 0.25, 0.0, None, None, 1.0]


def test_a_failure_is_a_zero_only_where_asked():
    assert apply_failure_policy(MIXED, "wrong", 0.5) == [1.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("policy", ["exclude", "wrong"])
def test_the_share_is_a_bound_that_may_be_reached(policy):
    apply_failure_policy(MIXED, policy, 3 / 8)
    with pytest.raises(TooManyFailures) as caught:
        apply_failure_policy(MIXED, policy, 0.37)
    message = str(caught.value)
    assert "3 of 8 verdicts failed (37.5%)" in message
    assert "most of them by timeout (2, for example: an example of timeout)" in message
    assert "reward.max_failure_share=0.37" in message
    assert caught.value.counts.failures[FailureKind.TIMEOUT] == 2


def test_abort_allows_none():
    with pytest.raises(TooManyFailures, match=r"crash \(1.*reward\.on_failure=abort"):
        apply_failure_policy([*[scored(1.0)] * 99, failed(FailureKind.CRASH)], "abort", 1.0)
    assert apply_failure_policy([scored(1.0), scored(0.0)], "abort", 0.0) == [1.0, 0.0]


def test_nothing_in_nothing_out():
    assert apply_failure_policy([], "exclude", 0.0) == []


def test_unknown_policy():
    with pytest.raises(ValueError, match="forgive"):
        apply_failure_policy([], "forgive", 0.0)


def test_a_verdict_has_a_score_or_a_failure():
    with pytest.raises(ValueError, match="either"):
        Verdict(score=0.0, failure=FailureKind.TIMEOUT, answer=None, rule="", detail="", seconds=0.0)
    with pytest.raises(ValueError, match="either"):
        Verdict(score=None, failure=None, answer=None, rule="", detail="", seconds=0.0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        scored(float("nan"))
