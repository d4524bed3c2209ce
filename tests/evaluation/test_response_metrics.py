"""Diversity and confidence of the responses of a step, worked by hand."""

from math import exp, log

import numpy as np
import pytest

from launch.batch import Sample
from launch.diversity import answer_entropy, ngram_diversity
from launch.response_metrics import response_metrics
from reward.types import FailureKind, Verdict
from rollout.types import FinishReason, Prompt, Response, VersionSpan


def test_ngram_diversity_by_hand():
    # 1-grams 3 of 12; 2-grams of 123123: 12 23 31 12 23, 3 of 10; 3-grams 3 of 8; 4-grams 3 of 6; 5-grams 2 of 4.
    twice = [[1, 2, 3, 1, 2, 3]] * 2
    assert ngram_diversity(twice) == pytest.approx(3 / 12 * 3 / 10 * 3 / 8 * 3 / 6 * 2 / 4)
    assert ngram_diversity([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]) == 1.0
    assert ngram_diversity([[1, 2, 3, 4]]) is None


def test_answer_entropy_in_closed_form():
    assert answer_entropy(["a"] * 8) == 0
    assert answer_entropy(["a", "b", "c", "d"]) == pytest.approx(log(4))


def sample(group: int, tokens: list[int], logprob: float) -> Sample:
    logprobs = np.full(len(tokens), logprob, np.float32)
    prompt = Prompt(f"p/{group}", "", np.zeros(1, np.int32), "s", "v", None, {}, f"{group}")
    spans = (VersionSpan(0, 0),)
    response = Response(prompt.uid, 0, np.array(tokens, np.int32), logprobs, "", FinishReason.STOP, spans, 0)
    return Sample(prompt, group, response, None)


def test_a_step_by_hand():
    samples = [
        sample(0, [1, 2, 3, 4, 5], -0.5),
        sample(0, [1, 2, 3, 4, 6], -1.0),
        sample(1, [1, 2], -2.0),
        sample(1, [1, 3], -0.25),
    ]
    verdicts = [
        Verdict(1.0, None, "1/2", "", "", 0.1),
        Verdict(1.0, None, "0.5", "", "", 0.1),
        Verdict(0.0, None, "7", "", "", 0.1),
        Verdict(None, FailureKind.TIMEOUT, None, "", "", 0.1),
    ]
    row = response_metrics(samples, verdicts)
    likelihood = [exp(-0.5), exp(-1.0), exp(-2.0)]  # in three bins of their own
    errors = [1 - likelihood[0], 1 - likelihood[1], likelihood[2]]
    assert row == pytest.approx(
        {
            "diversity/distinct_answers": 1.5,
            "diversity/answer_entropy": log(2) / 2,
            "diversity/ngram": 6 / 10 * 5 / 8 * 4 / 6 * 3 / 4 * 2 / 2,
            "confidence/logprob_right": -0.75,
            "confidence/logprob_wrong": -2.0,
            "confidence/logprob_gap": 1.25,
            "calibration/likelihood_ece": sum(errors) / 3,
            "calibration/likelihood_brier": sum(error**2 for error in errors) / 3,
            "calibration/likelihood_auroc": 1.0,
            "calibration/agreement_ece": 0.5 / 3,
            "calibration/agreement_brier": 0.25 / 3,
            "calibration/agreement_auroc": 1.0,
        }
    )


def test_what_has_no_meaning_is_missing():
    right = Verdict(1.0, None, "7", "", "", 0.1)
    row = response_metrics([sample(0, [1], -1.0)], [right])
    assert not {"diversity/ngram", "confidence/logprob_gap", "calibration/likelihood_auroc"} & set(row)
    failed = Verdict(None, FailureKind.CRASH, None, "", "", 0.1)
    assert set(response_metrics([sample(0, [1], -1.0)], [failed])) == {
        "diversity/distinct_answers",
        "diversity/answer_entropy",
    }
