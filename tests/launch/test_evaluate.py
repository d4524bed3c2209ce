"""The figures of an evaluation set by hand, with failed verdicts left out."""

import pytest

from launch.evaluate import accuracy_row
from launch.verdicts import NothingJudged
from reward.types import FailureKind, Verdict


def judged(answer: str | None, right: bool) -> Verdict:
    return Verdict(float(right), None, answer, "", "", 0.01)


FAILED = Verdict(None, FailureKind.TIMEOUT, None, "", "", 5.0)
RIGHT, WRONG, NONE = judged("7", True), judged("8", False), judged(None, False)


def test_every_figure():
    row = accuracy_row([[RIGHT, RIGHT, WRONG, WRONG], [RIGHT, WRONG, NONE, NONE], [WRONG, WRONG, WRONG, RIGHT]], seed=0)
    low, high = row.pop("avg_at_k_low"), row.pop("avg_at_k_high")
    assert row == pytest.approx(
        {
            "avg_at_k": (1 / 2 + 1 / 4 + 1 / 4) / 3,
            "pass_at_2": ((1 - 1 / 6) + 1 / 2 + 1 / 2) / 3,  # 1 - C(2, 2) / C(4, 2), and 1 - C(3, 2) / C(4, 2)
            "pass_at_4": 1.0,
            "maj_at_k": (1 / 2 + 1 / 2 + 0) / 3,  # two against two, one against one, one against three
        }
    )
    assert 0.25 <= low < row["avg_at_k"] < high <= 0.5


def test_failures_are_left_out_and_so_is_what_too_few_are_left_for():
    row = accuracy_row([[RIGHT, FAILED], [WRONG, WRONG], [FAILED, FAILED]], seed=0)
    assert row["avg_at_k"] == 0.5  # a mean of prompts: (1 + 0) / 2, not 1 right of 3
    assert (row["pass_at_2"], row["maj_at_k"]) == (0.0, 0.0)
    assert accuracy_row([[RIGHT, FAILED]], seed=0) == {"avg_at_k": 1.0, "avg_at_k_low": 1.0, "avg_at_k_high": 1.0}


def test_one_response_has_no_votes_and_no_draws():
    assert set(accuracy_row([[RIGHT], [WRONG]], seed=0)) == {"avg_at_k", "avg_at_k_low", "avg_at_k_high"}


def test_pass_at_every_power_of_two_and_at_k():
    assert [key for key in accuracy_row([[RIGHT] * 6], seed=0) if "pass" in key] == [f"pass_at_{k}" for k in (2, 4, 6)]


def test_no_verdict_at_all_is_not_a_figure():
    with pytest.raises(NothingJudged, match="no response of the evaluation set has a verdict"):
        accuracy_row([[FAILED, FAILED]], seed=0)
