"""Selecting tokens of a plan, and several plans as one."""

import pytest
import torch

from entropy.plan import NEUTRAL, TokenPlan, composed


def test_select_picks_from_tensors_and_leaves_scalars():
    plan = TokenPlan(weight=torch.tensor([0.0, 1.0, 2.0]), kl_coef=0.5, clip_low=torch.tensor([0.1, 0.2, 0.3]))
    chosen = plan.select(torch.tensor([2, 0]))
    assert chosen.weight.tolist() == [2.0, 0.0]
    assert chosen.clip_low.tolist() == torch.tensor([0.3, 0.1]).tolist()
    assert (chosen.kl_coef, chosen.entropy_coef, chosen.clip_high) == (0.5, 0.0, None)


def test_the_neutral_plan_changes_nothing():
    assert TokenPlan(weight=1.0, kl_coef=0.0, entropy_coef=0.0, clip_low=None, clip_high=None) == NEUTRAL
    assert NEUTRAL.select(torch.tensor([0])) == NEUTRAL


def test_weights_multiply_and_coefficients_add():
    plans = [
        TokenPlan(weight=torch.tensor([0.0, 2.0, 1.0]), kl_coef=torch.tensor([0.0, 1.0, 2.0]), kl_penalty="k2"),
        TokenPlan(weight=0.5, entropy_coef=0.1),
        TokenPlan(weight=torch.tensor([1.0, 1.0, 4.0]), kl_coef=0.5, kl_penalty="k2", entropy_coef=torch.ones(3)),
    ]
    whole = composed(plans)
    assert whole.weight.tolist() == [0.0, 1.0, 2.0]
    assert whole.kl_coef.tolist() == [0.5, 1.5, 2.5]
    assert whole.entropy_coef.tolist() == pytest.approx([1.1, 1.1, 1.1])
    assert whole.kl_penalty == "k2"
    turned = composed(plans[::-1])
    assert turned.weight.tolist() == whole.weight.tolist()
    assert turned.kl_coef.tolist() == whole.kl_coef.tolist()


def test_nothing_composed_is_neutral_and_one_plan_is_itself():
    assert composed([]) == NEUTRAL
    assert composed([NEUTRAL, NEUTRAL]) == NEUTRAL
    plan = TokenPlan(weight=2.0, kl_coef=0.5, kl_penalty="k3", entropy_coef=-0.1, clip_low=0.1, clip_high=0.3)
    assert composed([plan]) == composed([NEUTRAL, plan, NEUTRAL]) == plan


def test_a_bound_has_one_owner():
    low, high = TokenPlan(clip_low=0.1), TokenPlan(clip_high=torch.tensor([0.2, 0.3]))
    whole = composed([low, high])
    assert whole.clip_low == 0.1
    assert whole.clip_high is high.clip_high
    with pytest.raises(ValueError, match="two entropy controls set clip_low"):
        composed([low, TokenPlan(clip_low=torch.tensor([0.1, 0.2]))])
    with pytest.raises(ValueError, match="two entropy controls set clip_high"):
        composed([high, TokenPlan(clip_high=0.2)])


def test_two_kinds_of_penalty_do_not_compose_but_a_kind_without_a_coefficient_is_none():
    penalised = TokenPlan(kl_coef=torch.tensor([0.0, 1.0]), kl_penalty="k3")
    assert composed([penalised, TokenPlan(kl_penalty="abs")]).kl_penalty == "k3"
    assert composed([TokenPlan(kl_penalty="abs"), penalised]).kl_penalty == "k3"
    with pytest.raises(ValueError, match="penalise in two ways, k3 and abs"):
        composed([penalised, TokenPlan(kl_coef=0.1, kl_penalty="abs")])


def test_composing_leaves_the_plans_as_they_are():
    weight = torch.tensor([1.0, 2.0])
    composed([TokenPlan(weight=weight), TokenPlan(weight=3.0)])
    assert weight.tolist() == [1.0, 2.0]
