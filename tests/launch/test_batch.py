"""The learner's batch from hand-made samples, one of them without a score, and the figures about it."""

from dataclasses import replace

import numpy as np
import pytest

from launch.batch import NothingToTrain, Sample, add_advantages, build_batch, sample_metrics, token_metrics
from launch.config import compose
from learner.advantages import GroupKinds
from reward.composition import Reward
from reward.policy import OutcomeCounts
from reward.types import FailureKind
from rollout.types import FinishReason, Prompt, Response, VersionSpan

CONFIG = compose(["algorithm=dr_grpo"])
CHARGED = replace(CONFIG.reference, place="reward", coef=0.5, estimator="k1")


def prompt(uid, tokens):
    return Prompt(uid, "", np.array(tokens, np.int32), source="s", verifier="v", gold=None, metadata={}, identity="")


def response(uid, tokens, logprobs, finish=FinishReason.STOP, versions=((0, 0),)):
    return Response(
        uid=uid,
        sample=0,
        token_ids=np.array(tokens, np.int32),
        logprobs=np.array(logprobs, np.float32),
        text="",
        finish_reason=finish,
        versions=tuple(VersionSpan(*span) for span in versions),
        engine=0,
    )


PROMPTS = [prompt("a", [1, 2]), prompt("b", [3])]
SAMPLES = Sample.of_groups(
    PROMPTS,
    [
        [
            response("a", [14], [-4.0]),
            response("a", [10], [-0.5]),
            response("a", [11, 12, 13], [-1.0, -2.0, -3.0], versions=((0, 4), (2, 5))),
        ],
        [response("b", [15, 16], [-5.0, -6.0], finish=FinishReason.LENGTH)],
    ],
    [None, Reward(1.0, {}), Reward(0.0, {}), Reward(0.5, {})],
)
BATCH = build_batch(SAMPLES, train_on_truncated=True, oldest=None, temperature=0.7)
TRAINABLE = add_advantages(SAMPLES, BATCH, CONFIG.algorithm, CONFIG.reference)


def test_a_batch_has_the_temperature_it_was_drawn_at():
    assert BATCH.temperature == TRAINABLE.batch.temperature == 0.7


def test_samples_are_numbered_by_prompt():
    assert [(s.prompt.uid, s.group, s.reward and s.reward.score) for s in SAMPLES] == [
        ("a", 0, None),
        ("a", 0, 1.0),
        ("a", 0, 0.0),
        ("b", 1, 0.5),
    ]
    with pytest.raises(ValueError, match="zip"):
        Sample.of_groups(PROMPTS, [[response("a", [1], [0.0])], []], [None, None])


def test_the_batch_is_flat_and_leaves_out_what_has_no_score():
    batch = TRAINABLE.batch
    assert TRAINABLE.kept.tolist() == [1, 2, 3]
    assert batch.tokens.tolist() == [1, 2, 10, 1, 2, 11, 12, 13, 3, 15, 16]
    assert batch.lengths.tolist() == [3, 5, 3]
    assert batch.prompt_lengths.tolist() == [2, 2, 1]
    assert batch.groups.tolist() == [0, 0, 1]
    assert batch.behaviour_logprobs.tolist() == [-0.5, -1, -2, -3, -5, -6]
    assert batch.versions.tolist() == [0, 4, 4, 5, 0, 0]
    assert batch.mask.tolist() == [True] * 6
    assert BATCH.advantages is batch.old_logprobs is batch.reference_logprobs is None
    assert batch.tokens.dtype == batch.lengths.dtype == batch.groups.dtype == batch.versions.dtype == np.int32
    assert batch.behaviour_logprobs.dtype == batch.advantages.dtype == np.float32


def test_every_token_carries_the_advantage_of_its_sample():
    assert TRAINABLE.batch.advantages.tolist() == [0.5, -0.5, -0.5, -0.5, 0, 0]
    np.testing.assert_array_equal(TRAINABLE.advantages, [np.nan, 0.5, -0.5, 0])
    assert TRAINABLE.kinds == GroupKinds(mixed=1, all_right=0, all_wrong=0, all_equal=0, too_small=1)


def test_truncated_responses_may_be_left_out_of_the_loss_but_not_of_their_group():
    batch = build_batch(SAMPLES, train_on_truncated=False, oldest=None, temperature=0.7)
    assert batch.mask.tolist() == [True] * 4 + [False] * 2
    assert batch.tokens.tolist() == BATCH.tokens.tolist()
    trainable = add_advantages(SAMPLES, batch, CONFIG.algorithm, CONFIG.reference)
    np.testing.assert_array_equal(trainable.advantages, TRAINABLE.advantages)
    assert token_metrics(batch, batch.behaviour_logprobs, np.zeros(6, np.float32))["tokens/trained"] == 4


def test_tokens_of_older_weights_may_be_left_out_of_the_loss():
    spans = (VersionSpan(0, 3), VersionSpan(1, 4), VersionSpan(2, 6))
    response = replace(SAMPLES[2].response, versions=spans)
    assert len(response.token_ids) == 3
    samples = [replace(s, response=response) if s is SAMPLES[2] else s for s in SAMPLES]
    batch = build_batch(samples, train_on_truncated=True, oldest=4, temperature=0.7)
    of_it = batch.versions.tolist().index(3)
    assert batch.versions[of_it : of_it + 3].tolist() == [3, 4, 6]
    assert batch.mask[of_it : of_it + 3].tolist() == [False, True, True]
    others = [i for i in range(batch.mask.size) if not of_it <= i < of_it + 3]
    assert batch.mask[others].tolist() == (batch.versions[others] >= 4).tolist()


def test_terms_change_advantages_and_leave_right_and_wrong_alone():
    """Two right responses of different length: what tells them apart is the charge, and both stay right."""
    rewards = [None, Reward(1.0, {"overlong": -0.25}), Reward(1.0, {"overlong": 0.0}), Reward(0.5, {"overlong": -1.0})]
    samples = [replace(s, reward=reward) for s, reward in zip(SAMPLES, rewards, strict=True)]
    trainable = add_advantages(samples, BATCH, CONFIG.algorithm, CONFIG.reference)
    np.testing.assert_array_equal(trainable.advantages, np.array([np.nan, -0.125, 0.125, 0], np.float32))
    assert trainable.kinds == GroupKinds(mixed=0, all_right=1, all_wrong=0, all_equal=0, too_small=1)
    counts = OutcomeCounts(correct=2, wrong=1, unparsable=0, failures={FailureKind.TIMEOUT: 1})
    row = sample_metrics(samples, counts, trainable)
    assert row["reward/accuracy"] == pytest.approx(2 / 3)
    assert row["reward/mean"] == pytest.approx((0.75 + 1.0 - 0.5) / 3)
    assert row["groups/all_correct"] == 0.5
    assert row["response/length_correct_mean"] == 2.0  # of 1 and 3 tokens
    assert row["response/length_wrong_mean"] == 2.0


def test_divergence_from_the_reference_is_charged_to_the_score():
    # log pi - log pi_ref is 1 for the first response, and 2, 0 and -3 for the tokens of the second.
    reference = BATCH.behaviour_logprobs - np.array([1, 2, 0, -3, 0, 0], np.float32)
    batch = replace(BATCH, reference_logprobs=reference)
    trainable = add_advantages(SAMPLES, batch, CONFIG.algorithm, CHARGED)
    # 1 - 0.5 · 1 = 0.5 and 0 - 0.5 · (-1) = 0.5: what the verifier saw is gone, and the kinds are still its own.
    np.testing.assert_array_equal(trainable.advantages, [np.nan, 0, 0, 0])
    assert trainable.kinds == TRAINABLE.kinds
    assert trainable.penalty == pytest.approx((1 - 1 + 0) / 3)
    # k2 of the same: 1/2, and (4 + 9)/2; scores 0.75 and -3.25.
    trainable = add_advantages(SAMPLES, batch, CONFIG.algorithm, replace(CHARGED, estimator="k2"))
    np.testing.assert_allclose(trainable.advantages, [np.nan, 2, -2, 0])
    assert trainable.batch.advantages.tolist() == [2, -2, -2, -2, 0, 0]
    counts = OutcomeCounts(correct=1, wrong=1, unparsable=1, failures={FailureKind.TIMEOUT: 1})
    row = sample_metrics(SAMPLES, counts, trainable)
    assert (row["reward/kl_reference_mean"], row["reward/mean"]) == (pytest.approx(7 / 3), 0.5)


def test_a_reference_in_the_loss_leaves_scores_alone():
    batch = replace(BATCH, reference_logprobs=BATCH.behaviour_logprobs - 1)
    trainable = add_advantages(SAMPLES, batch, CONFIG.algorithm, replace(CHARGED, place="loss"))
    np.testing.assert_array_equal(trainable.advantages, TRAINABLE.advantages)
    assert trainable.penalty is None


def test_a_charge_without_a_reference_is_a_mistake():
    with pytest.raises(ValueError, match="not been scored under the reference policy"):
        add_advantages(SAMPLES, BATCH, CONFIG.algorithm, CHARGED)


def test_figures_about_samples():
    counts = OutcomeCounts(correct=1, wrong=1, unparsable=1, failures={FailureKind.TIMEOUT: 1})
    row = sample_metrics(SAMPLES, counts, TRAINABLE)
    assert row == {
        "reward/correct": 1,
        "reward/wrong": 1,
        "reward/unparsable": 1,
        "reward/failed": 1,
        "reward/failed.timeout": 1,
        "reward/accuracy": pytest.approx(1 / 3),
        "reward/mean": 0.5,
        "groups/all_correct": 0.0,
        "groups/all_wrong": 0.0,
        "groups/all_equal": 0.0,
        "groups/too_small": 0.5,
        "groups/mixed": 0.5,
        "response/length_mean": 7 / 4,
        "response/length_p10": 1.0,
        "response/length_p50": 1.5,
        "response/length_p90": pytest.approx(2.7),
        "response/length_max": 3,
        "response/truncated_share": 0.25,
        "response/aborted_share": 0.0,
        "tokens/generated": 7,
        "response/length_correct_mean": 1.0,
        "response/length_wrong_mean": 2.5,
        "advantages/mean": 0.0,
        "advantages/std": pytest.approx(np.sqrt(0.5 / 3)),
        "advantages/min": -0.5,
        "advantages/max": 0.5,
    }


def test_without_verdicts_there_is_no_accuracy_and_no_mean():
    counts = OutcomeCounts(correct=0, wrong=0, unparsable=0, failures={FailureKind.CRASH: 4})
    row = sample_metrics([replace(s, reward=None) for s in SAMPLES], counts, TRAINABLE)
    assert not {"reward/accuracy", "reward/mean", "response/length_correct_mean"} & row.keys()


def test_figures_about_tokens():
    # The learner differs from the engine by ln 2 on one of six tokens.
    logprobs = TRAINABLE.batch.behaviour_logprobs.copy()
    logprobs[3] -= np.float32(np.log(2))
    row = token_metrics(TRAINABLE.batch, logprobs, np.array([0, 0, 0, 0, 1, 2], np.float32))
    assert row == {
        "entropy/token_mean": 0.5,
        "entropy/sampled_mean": pytest.approx(17.5 / 6),
        "mismatch/logprob_abs_mean": pytest.approx(np.log(2) / 6, rel=1e-6),
        "mismatch/logprob_abs_max": pytest.approx(np.log(2), rel=1e-6),
        "mismatch/prob_ratio_mean": pytest.approx(7 / 6, rel=1e-6),
        # From e^-3 to half of it.
        "mismatch/prob_abs_mean": pytest.approx(np.exp(-3) / 2 / 6, rel=1e-6),
        "mismatch/prob_abs_max": pytest.approx(np.exp(-3) / 2, rel=1e-6),
        "mismatch/kl_k3": pytest.approx((0.5 - 1 + np.log(2)) / 6, rel=1e-6),
        "tokens/trained": 6,
    }


def test_a_step_without_any_score_is_an_error_in_words():
    unscored = [replace(sample, reward=None) for sample in SAMPLES]
    with pytest.raises(NothingToTrain, match="none of the 4 responses has a score"):
        build_batch(unscored, train_on_truncated=True, oldest=None, temperature=0.7)
