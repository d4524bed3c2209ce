"""Advantages of small groups worked by hand, and of all small groups by enumeration."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import sqrt

import numpy as np
import pytest

from launch.config import compose
from learner.advantages import GroupKinds, RewardsNotBinary, group_advantages

GRPO = replace(compose([]).algorithm, std_epsilon=0.0)
DR_GRPO = replace(GRPO, normalise="none")
RLOO = replace(DR_GRPO, estimator="rloo")
REINFORCE = compose(["algorithm=reinforce"]).algorithm
REINFORCE_PP = replace(GRPO, estimator="reinforce_pp", normalise="batch")
BASELINE = replace(GRPO, estimator="reinforce_pp_baseline", normalise="batch")
LITE = replace(GRPO, normalise="batch")
PASS_AT_2 = replace(GRPO, estimator="pass_at_k", pass_k=2)
ALL = {
    "grpo": GRPO,
    "dr_grpo": DR_GRPO,
    "rloo": RLOO,
    "reinforce_pp": REINFORCE_PP,
    "reinforce_pp_baseline": BASELINE,
    "lite": LITE,
    "pass_at_2": PASS_AT_2,
    "reinforce": replace(DR_GRPO, estimator="reinforce"),
    "rloo_batch": replace(RLOO, normalise="batch"),
}
NAN = np.nan
# The batch: mean 3/4, sample variance (1 + 1 + 1 + 9)/16/3 = 1/4.
TWO_GROUPS = [1, 0, 1, 1], [0, 0, 1, 1]


def of(rewards, groups, config=GRPO):
    return group_advantages(np.array(rewards, float), np.array(groups), config)


def test_one_right_of_four():
    # Mean 1/4; sample variance (9 + 1 + 1 + 1)/16/3 = 1/4, so the deviation is 1/2.
    advantages, kinds = of([1, 0, 0, 0], [0, 0, 0, 0])
    np.testing.assert_allclose(advantages, [1.5, -0.5, -0.5, -0.5])
    assert advantages.dtype == np.float32
    assert kinds == GroupKinds(mixed=1, all_right=0, all_wrong=0, all_equal=0, too_small=0)


def test_dr_grpo_only_centres():
    advantages, _ = of([1, 0, 0, 0], [0, 0, 0, 0], DR_GRPO)
    np.testing.assert_allclose(advantages, [0.75, -0.25, -0.25, -0.25])


def test_rloo_compares_with_the_others():
    # 1 against the mean 0 of the three others; 0 against their mean 1/3. The member without a score is none of them.
    advantages, _ = of([1, 0, 0, NAN, 0], [0, 0, 0, 0, 0], RLOO)
    np.testing.assert_allclose(advantages, [1, -1 / 3, -1 / 3, NAN, -1 / 3], rtol=1e-6)


def test_reinforce_is_one_or_minus_one_whatever_the_group():
    # A group of one, one all right, one all wrong and one mixed, of which one has no score.
    rewards, groups = [1, 1, 1, 0, 0, 1, NAN, 0], [0, 1, 1, 2, 2, 3, 3, 3]
    advantages, kinds = of(rewards, groups, REINFORCE)
    np.testing.assert_array_equal(advantages, [1, 1, 1, -1, -1, 1, NAN, -1])
    assert kinds == GroupKinds(mixed=1, all_right=1, all_wrong=1, all_equal=0, too_small=1)
    with pytest.raises(RewardsNotBinary, match=r"reinforce counts right responses, but a reward is 0.5"):
        of([1, 0.5], [0, 0], REINFORCE)


def test_reinforce_pp_compares_with_the_batch():
    # Mean 3/4, sample variance (1 + 1 + 1 + 9)/16/3 = 1/4. The group without spread carries a signal.
    advantages, kinds = of(*TWO_GROUPS, REINFORCE_PP)
    np.testing.assert_allclose(advantages, [0.5, -1.5, 0.5, 0.5])
    assert (kinds.mixed, kinds.all_right) == (1, 1)
    # So does a response alone.
    np.testing.assert_allclose(of([1, 0], [0, 1], REINFORCE_PP)[0], [sqrt(0.5), -sqrt(0.5)], rtol=1e-6)
    np.testing.assert_array_equal(of([0.1, NAN, 0.1, 0.1], [0, 0, 1, 1], REINFORCE_PP)[0], [0, NAN, 0, 0])


def test_reinforce_pp_baseline_divides_by_the_deviation_of_what_is_left():
    # Centred 1/2, -1/2, 0, 0: sample variance (1/4 + 1/4)/3 = 1/6.
    advantages, _ = of(*TWO_GROUPS, BASELINE)
    np.testing.assert_allclose(advantages, [0.5 * sqrt(6), -0.5 * sqrt(6), 0, 0], rtol=1e-6)


def test_batch_deviation_of_the_scores():
    # Centred 1/2, -1/2, 0, 0 over the deviation 1/2 of 1, 0, 1, 1.
    advantages, _ = of(*TWO_GROUPS, LITE)
    np.testing.assert_allclose(advantages, [1, -1, 0, 0])
    advantages, _ = of([1, 0, 1, NAN, 1], [0, 0, 1, 1, 1], LITE)
    np.testing.assert_allclose(advantages, [1, -1, 0, NAN, 0])


def test_pass_at_2_with_one_right_of_four():
    # R = 1 - C(3,2)/C(4,2) = 1/2, deviation 1/2; right 1/2, wrong 1/2 - C(2,1)/C(3,1) = -1/6.
    advantages, _ = of([1, 0, 0, NAN, 0], [0] * 5, PASS_AT_2)
    np.testing.assert_allclose(advantages, [1, -1 / 3, -1 / 3, NAN, -1 / 3], rtol=1e-6)
    advantages, _ = of([1, 0, 0, 0], [0] * 4, replace(PASS_AT_2, normalise="none"))
    np.testing.assert_allclose(advantages, [1 / 2, -1 / 6, -1 / 6, -1 / 6], rtol=1e-6)


@pytest.mark.parametrize("size", range(1, 8))
def test_pass_at_k_is_the_mean_over_all_subsets(size):
    """Each subset is one draw with the reward of its best; a response has the mean advantage of the draws it is in."""
    for k in range(1, size + 1):
        for right in range(size + 1):
            scores = [1] * right + [0] * (size - right)
            subsets = list(combinations(range(size), k))
            best = [max(scores[i] for i in subset) for subset in subsets]
            mean = Fraction(sum(best), len(best))
            deviation = sqrt(sum((reward - mean) ** 2 for reward in best) / len(best))
            expected = []
            for i in range(size):
                drawn = [reward for reward, subset in zip(best, subsets, strict=True) if i in subset]
                expected.append(float(Fraction(sum(drawn), len(drawn)) - mean) / deviation if deviation else 0.0)
            advantages, _ = of(scores, [0] * size, replace(PASS_AT_2, pass_k=k))
            np.testing.assert_allclose(advantages, expected, rtol=1e-6, atol=1e-12)


def test_pass_at_k_of_fewer_than_k_has_nothing_to_draw():
    advantages, kinds = of([1, 0, NAN], [0, 0, 0], replace(PASS_AT_2, pass_k=3))
    np.testing.assert_array_equal(advantages, [0, 0, NAN])
    assert kinds.mixed == 1


def test_pass_at_k_of_partial_scores_is_refused():
    with pytest.raises(RewardsNotBinary, match=r"pass_at_k counts right responses, but a reward is 0.5"):
        of([1, 0.5, NAN], [0, 0, 0], PASS_AT_2)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match=r"no advantages by algorithm\.estimator = gae"):
        of([1, 0], [0, 0], replace(GRPO, estimator="gae"))


def test_epsilon_is_added_to_the_deviation():
    # Two members: mean 1/2, sample deviation sqrt(1/2).
    for config in (GRPO, LITE, BASELINE):
        advantages, _ = of([1, 0], [0, 0], replace(config, std_epsilon=0.5))
        np.testing.assert_allclose(advantages, [0.5 / (np.sqrt(0.5) + 0.5), -0.5 / (np.sqrt(0.5) + 0.5)], rtol=1e-6)


def test_groups_are_independent_and_may_be_interleaved():
    advantages, kinds = of([1, 0.2, 0, 0.2, 0, 0.8], [7, 3, 7, 3, 7, 3], DR_GRPO)
    np.testing.assert_allclose(advantages, [2 / 3, -0.2, -1 / 3, -0.2, -1 / 3, 0.4], rtol=1e-6)
    assert kinds.mixed == 2


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_the_order_of_samples_changes_no_digit(config):
    rng = np.random.default_rng(0)
    rewards, groups = rng.choice([0.0, 1.0, NAN], 300), rng.integers(0, 40, 300)
    if config.estimator not in ("pass_at_k", "reinforce"):
        rewards = rewards * rng.choice([0.1, 0.7, 1.0], 300)
    order = rng.permutation(300)
    advantages, kinds = group_advantages(rewards, groups, config)
    again, same_kinds = group_advantages(rewards[order], groups[order], config)
    np.testing.assert_array_equal(again, advantages[order])
    np.testing.assert_array_equal(np.isnan(advantages), np.isnan(rewards))
    assert same_kinds == kinds


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_a_missing_member_is_as_if_it_were_not_there(config):
    rng = np.random.default_rng(1)
    rewards, groups = rng.choice([0.0, 1.0, NAN], 60), rng.integers(0, 9, 60)
    there = ~np.isnan(rewards)
    advantages, _ = group_advantages(rewards, groups, config)
    np.testing.assert_array_equal(advantages[there], group_advantages(rewards[there], groups[there], config)[0])


def test_arithmetic_is_in_float64():
    # In float32 these two are the same number.
    advantages, _ = group_advantages(np.array([1.0, 1.0 + 1e-9]), np.array([0, 0]), DR_GRPO)
    np.testing.assert_allclose(advantages, [-5e-10, 5e-10], rtol=1e-6)


@pytest.mark.parametrize(
    ("rewards", "kind"),
    [
        ([1, 1], "all_right"),
        ([0, 0, 0], "all_wrong"),
        ([0.1, 0.1, 0.1], "all_equal"),
        ([1], "too_small"),
        ([1, NAN], "too_small"),
        ([NAN, NAN], "too_small"),
        ([1, 1, NAN], "all_right"),
        ([0, 1e-6], "mixed"),
    ],
)
def test_kinds(rewards, kind):
    for config in (GRPO, RLOO, LITE, BASELINE):
        advantages, kinds = of(rewards, [0] * len(rewards), config)
        assert kinds == GroupKinds(**{name: int(name == kind) for name in GroupKinds.__dataclass_fields__})
        if kind != "mixed":
            np.testing.assert_array_equal(advantages, np.where(np.isnan(rewards), NAN, 0))


def test_a_group_without_any_score_beside_another():
    advantages, kinds = of([1, 0, NAN, NAN], [0, 0, 1, 2], DR_GRPO)
    np.testing.assert_array_equal(advantages, [0.5, -0.5, NAN, NAN])
    assert kinds == GroupKinds(mixed=1, all_right=0, all_wrong=0, all_equal=0, too_small=2)


def test_a_spread_smaller_than_epsilon_gives_small_advantages():
    advantages, _ = of([0.1 + 0.2, 0.3], [0, 0], replace(GRPO, std_epsilon=1e-6))  # differ by 5.6e-17
    np.testing.assert_allclose(advantages, 0, atol=1e-9)


def test_no_samples():
    advantages, kinds = of([], [])
    assert advantages.size == 0
    assert kinds == GroupKinds(0, 0, 0, 0, 0)


def test_one_group_per_sample_is_demanded():
    with pytest.raises(ValueError, match="one value per sample"):
        of([1, 0], [0])
