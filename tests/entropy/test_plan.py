"""Selecting tokens of a plan."""

import torch

from entropy.plan import NEUTRAL, TokenPlan


def test_select_picks_from_tensors_and_leaves_scalars():
    plan = TokenPlan(weight=torch.tensor([0.0, 1.0, 2.0]), kl_coef=0.5, clip_low=torch.tensor([0.1, 0.2, 0.3]))
    chosen = plan.select(torch.tensor([2, 0]))
    assert chosen.weight.tolist() == [2.0, 0.0]
    assert chosen.clip_low.tolist() == torch.tensor([0.3, 0.1]).tolist()
    assert (chosen.kl_coef, chosen.entropy_coef, chosen.clip_high) == (0.5, 0.0, None)


def test_the_neutral_plan_changes_nothing():
    assert TokenPlan(weight=1.0, kl_coef=0.0, entropy_coef=0.0, clip_low=None, clip_high=None) == NEUTRAL
    assert NEUTRAL.select(torch.tensor([0])) == NEUTRAL
