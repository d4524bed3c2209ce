"""Diversity and confidence of the responses of a step, worked by hand."""

from math import exp, log, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from launch import diversity as module
from launch.batch import Sample
from launch.diversity import LONGEST, diversity, ngram_diversity, self_bleu
from launch.ngrams import NGrams
from launch.response_metrics import response_metrics
from reward.types import FailureKind, Verdict
from rollout.types import FinishReason, Prompt, Response, VersionSpan


def of(measure, *prompts) -> list[float]:
    """Of the responses to each prompt, counted together."""
    return measure(NGrams.of(prompts, LONGEST)).tolist()


def test_ngram_diversity_by_hand():
    # 1-grams 3 of 12; 2-grams of 123123: 12 23 31 12 23, 3 of 10; 3-grams 3 of 8; 4-grams 3 of 6; 5-grams 2 of 4.
    twice = [[1, 2, 3, 1, 2, 3]] * 2
    unlike, brief = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], [[1, 2, 3, 4]]
    expected = [3 / 12 * 3 / 10 * 3 / 8 * 3 / 6 * 2 / 4, 1.0, nan]
    assert of(ngram_diversity, twice, unlike, brief) == pytest.approx(expected, nan_ok=True)
    assert of(ngram_diversity) == []


def test_self_bleu_of_the_same_responses_is_one_and_of_unlike_ones_zero():
    equal, unlike, alone = [[7, 8, 9, 10, 11]] * 4, [[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4]]
    brief = [[7, 8]] * 3  # shorter than the longest n-gram
    assert of(self_bleu, equal, brief, unlike, alone) == pytest.approx([1, 1, 0, nan], nan_ok=True)


def test_self_bleu_by_hand():
    # Each has 5 of 6 tokens, 4 of 5 pairs, 3 of 4 triples and 2 of 3 quadruples of the other, and its length.
    pair = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]]
    assert of(self_bleu, pair) == pytest.approx([(5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25])
    # A token that one other response has twice and another once counts twice at most; the shorter one is penalised.
    brief, long = [1, 1, 1], [1, 1, 2, 3]
    of_brief = np.exp(1 - 4 / 3) * (2 / 3 * 1 / 2 * 1 / (2 * 1)) ** (1 / 3)
    of_long = (2 / 4 * 1 / 3 * 1 / (2 * 2) * 1 / (4 * 1)) ** (1 / 4)
    assert of(self_bleu, [brief, long]) == pytest.approx([(of_brief + of_long) / 2])


RESPONSES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=2, max_size=6)


@settings(deadline=None)
@given(st.lists(RESPONSES, min_size=1, max_size=4))
def test_self_bleu_is_the_sentence_bleu_of_sacrebleu(prompts):
    bleu = BLEU(tokenize="none", effective_order=True)
    expected = []
    for responses in prompts:
        texts = [" ".join(map(str, tokens)) for tokens in responses]
        scores = [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
        expected.append(np.mean(scores) / 100)
    assert of(self_bleu, *prompts) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(RESPONSES, min_size=1, max_size=4))
def test_ngram_diversity_is_that_of_sets_of_tuples(prompts):
    expected = []
    for responses in prompts:
        grams = [[tuple(t[i : i + n]) for t in responses for i in range(len(t) - n + 1)] for n in range(1, 6)]
        expected.append(np.prod([len(set(each)) / len(each) for each in grams]) if all(grams) else nan)
    assert of(ngram_diversity, *prompts) == pytest.approx(expected, nan_ok=True)


def test_of_many_tokens_a_sample_of_the_prompts_is_counted_whatever_their_order(monkeypatch):
    generator = np.random.default_rng(0)
    uids = [f"p/{i}" for i in range(30)]
    responses = [generator.integers(0, 3 + i, (4, 10)).tolist() for i in range(30)]
    answers = [["right"] * 4] * 30
    whole = diversity(uids, responses, answers)
    assert whole["self_bleu"] == pytest.approx(np.mean(of(self_bleu, *responses)))
    monkeypatch.setattr(module, "MOST_TOKENS", 400)  # of ten prompts
    counted = []
    monkeypatch.setattr(
        module, "ngram_diversity", lambda grams: counted.append(grams.prompts) or ngram_diversity(grams)
    )
    sampled = diversity(uids, responses, answers)
    assert counted == [10]
    assert sampled["self_bleu"] != whole["self_bleu"]
    assert sampled == diversity(uids[::-1], responses[::-1], answers)
    monkeypatch.setattr(module, "MOST_TOKENS", 1)
    assert "self_bleu" in diversity(uids, responses, answers)


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
            # Of the first prompt 4 of 5 tokens, 3 of 4 pairs and so on are shared; of the second 1 of 2 and no pair.
            "diversity/self_bleu": ((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4) + (1 / 2 * 1 / 2) ** (1 / 2)) / 2,
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
