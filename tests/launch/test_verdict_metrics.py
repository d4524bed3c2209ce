"""Figures about hand-made verdicts."""

import numpy as np
import pytest

from launch.batch import Sample
from launch.verdict_metrics import verdict_metrics
from reward.types import FailureKind, Verdict
from rollout.types import FinishReason, Prompt, Response, VersionSpan


def sample(verifier, source):
    prompt = Prompt("u", "", np.zeros(1, np.int32), source, verifier, gold=None, metadata={}, identity="")
    response = Response(
        "u", 0, np.zeros(1, np.int32), np.zeros(1, np.float32), "", FinishReason.STOP, (VersionSpan(0, 0),), 0
    )
    return Sample(prompt, 0, response, 1.0)


def verdict(score, seconds, queued_s):
    if score is None:
        return Verdict(None, FailureKind.TIMEOUT, None, "", "", seconds, queued_s)
    return Verdict(score, None, "7", "boxed", "", seconds, queued_s)


def test_seconds_of_execution_and_of_the_queue():
    # Of 1 ... 200 the 99th percentile lies between 198 and 199, and the half between 100 and 101.
    verdicts = [verdict(1.0, second, 2 * second) for second in range(200, 0, -1)]
    assert verdict_metrics([sample("math", "gsm8k")] * 200, verdicts) == {
        "time/verdict_p50_s": 101.0,
        "time/verdict_p99_s": 199.0,
        "time/verdict_max_s": 200,
        "time/verdict_queued_p50_s": 201.0,
        "time/verdict_queued_max_s": 400,
    }


def test_each_verifier_and_each_source_where_there_are_several():
    samples = [sample("math", "gsm8k"), sample("math", "aime"), sample("code", "mbpp"), sample("code", "mbpp")]
    verdicts = [verdict(1.0, 1.0, 0.0), verdict(0.0, 3.0, 0.0), verdict(None, 5.0, 0.0), verdict(0.5, 4.0, 9.0)]
    row = verdict_metrics(samples, verdicts)
    assert {name: row[name] for name in row if "by_verifier/code" in name} == {
        "time/by_verifier/code/verdict_p50_s": 5.0,
        "time/by_verifier/code/verdict_p99_s": 5.0,
        "time/by_verifier/code/verdict_max_s": 5.0,
        "reward/by_verifier/code/responses": 2,
        "reward/by_verifier/code/failed": 1,
        "reward/by_verifier/code/accuracy": 0.0,
        "reward/by_verifier/code/score_mean": 0.5,
    }
    assert row["time/by_verifier/math/verdict_p50_s"] == 3.0
    assert {name: row[name] for name in row if name.endswith("/accuracy")} == {
        "reward/by_verifier/code/accuracy": 0.0,
        "reward/by_verifier/math/accuracy": 0.5,
        "reward/by_source/aime/accuracy": 0.0,
        "reward/by_source/gsm8k/accuracy": 1.0,
        "reward/by_source/mbpp/accuracy": 0.0,
    }
    assert row["time/verdict_queued_max_s"] == 9.0


def test_a_part_without_a_score_has_no_mean_and_no_wrong_zero():
    row = verdict_metrics([sample("a", "s"), sample("b", "s")], [verdict(None, 1.0, 0.0), verdict(1.0, 1.0, 0.0)])
    assert row["reward/by_verifier/a/failed"] == 1
    assert "reward/by_verifier/a/accuracy" not in row
    assert not any("by_source" in name for name in row)


def test_one_verdict_for_each_sample():
    with pytest.raises(ValueError, match="zip"):
        verdict_metrics([sample("a", "s")], [verdict(1.0, 1.0, 0.0)] * 2)
