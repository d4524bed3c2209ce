"""Advantages of small groups worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from learner.advantages import GroupKinds, group_advantages
from learner.config import AlgorithmConfig

GRPO = AlgorithmConfig(estimator="grpo", normalise_by_std=True, std_epsilon=0.0)
DR_GRPO = replace(GRPO, normalise_by_std=False)
NAN = np.nan


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
    advantages, _ = of([1, 0, 0, NAN, 0], [0, 0, 0, 0, 0], replace(DR_GRPO, estimator="rloo"))
    np.testing.assert_allclose(advantages, [1, -1 / 3, -1 / 3, NAN, -1 / 3], rtol=1e-6)


def test_epsilon_is_added_to_the_deviation():
    # Two members: mean 1/2, sample deviation sqrt(1/2).
    advantages, _ = of([1, 0], [0, 0], replace(GRPO, std_epsilon=0.5))
    np.testing.assert_allclose(advantages, [0.5 / (np.sqrt(0.5) + 0.5), -0.5 / (np.sqrt(0.5) + 0.5)], rtol=1e-6)


def test_groups_are_independent_and_may_be_interleaved():
    advantages, kinds = of([1, 0.2, 0, 0.2, 0, 0.8], [7, 3, 7, 3, 7, 3], DR_GRPO)
    np.testing.assert_allclose(advantages, [2 / 3, -0.2, -1 / 3, -0.2, -1 / 3, 0.4], rtol=1e-6)
    assert kinds.mixed == 2


def test_a_member_without_score_takes_no_part():
    # Without the missing one: mean 1/2, sample deviation sqrt(1/2).
    advantages, _ = of([1, NAN, 0], [0, 0, 0])
    np.testing.assert_allclose(advantages, [np.sqrt(0.5), NAN, -np.sqrt(0.5)], rtol=1e-6)


@pytest.mark.parametrize(
    ("rewards", "kind"),
    [
        ([1, 1], "all_right"),
        ([0, 0, 0], "all_wrong"),
        ([0.5, 0.5], "all_equal"),
        ([1], "too_small"),
        ([1, NAN], "too_small"),
        ([NAN, NAN], "too_small"),
        ([1, 1, NAN], "all_right"),
        ([0, 1e-6], "mixed"),
    ],
)
def test_kinds(rewards, kind):
    advantages, kinds = of(rewards, [0] * len(rewards))
    assert kinds == GroupKinds(**{name: int(name == kind) for name in GroupKinds.__dataclass_fields__})
    if kind != "mixed":
        np.testing.assert_array_equal(advantages, np.where(np.isnan(rewards), NAN, 0))


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
