"""The objective on single tokens by hand: each branch of the clip, each term of the plan, what must stay finite."""

import math

import pytest
import torch

from entropy.plan import NEUTRAL, TokenPlan
from learner.config import ClipConfig
from learner.objective import token_losses

CLIP = ClipConfig(low=0.2, high=0.3)


def token(ratio=1.0, advantage=1.0, entropy=0.5, plan=NEUTRAL, clip=CLIP):
    """Loss of one token and its gradients to the log-probability and to the entropy."""
    logprob = torch.tensor([-1.0], requires_grad=True)
    entropies = torch.tensor([entropy], requires_grad=True)
    old = torch.tensor([-1.0 - math.log(ratio)])
    losses, _ = token_losses(logprob, entropies, old, torch.tensor([advantage]), clip, plan)
    losses.sum().backward()
    return losses.item(), logprob.grad.item(), entropies.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # inside: d(-A r)/d log p = -A r
        (1.25, 2.0, -2.5, -2.5),  # still inside above: high is 0.3, not 0.2
        (0.85, -2.0, 1.7, 1.7),  # inside below
        (0.75, -2.0, 1.6, 0.0),  # A < 0 below 1 - low: clipped to 0.8
        (0.75, 2.0, -1.5, -1.5),  # A > 0 below: the pessimistic bound leaves it open
        (1.5, 2.0, -2.6, 0.0),  # A > 0 above 1 + high: clipped to 1.3
        (1.5, -2.0, 3.0, 3.0),  # A < 0 above: open
        (5.0, 0.0, 0.0, 0.0),
    ],
)
def test_branches(ratio, advantage, loss, gradient):
    got = token(ratio, advantage)
    assert got[:2] == (pytest.approx(loss, rel=1e-5), pytest.approx(gradient, rel=1e-5))
    assert got[2] == 0


@pytest.mark.parametrize("advantage", [2.0, -2.0])
@pytest.mark.parametrize("ratio", [0.01, 1.0, 50.0])
def test_without_thresholds_the_surrogate_is_minus_advantage_times_ratio(ratio, advantage):
    expected = pytest.approx(-advantage * ratio, rel=1e-5)
    assert token(ratio, advantage, clip=ClipConfig(low=None, high=None))[:2] == (expected, expected)


def test_one_threshold_may_be_missing():
    # Ratio 1.5 under A > 0 and 0.75 under A < 0: clipped to 1.3 and to 0.8 where there is a bound.
    above, below = ClipConfig(low=None, high=0.3), ClipConfig(low=0.2, high=None)
    assert [token(1.5, 2.0, clip=clip)[1] for clip in (above, below)] == [0.0, pytest.approx(-3.0)]
    assert [token(0.75, -2.0, clip=clip)[1] for clip in (above, below)] == [pytest.approx(1.5), 0.0]


def test_a_bound_of_the_plan_holds_where_none_is_configured():
    plan = TokenPlan(clip_low=0.2, clip_high=torch.tensor([0.3]))
    unclipped = ClipConfig(low=None, high=None)
    assert token(1.5, 2.0, clip=unclipped, plan=plan)[0] == pytest.approx(-2.6)
    assert token(0.75, -2.0, clip=unclipped, plan=plan)[0] == pytest.approx(1.6)


def test_equal_policies_have_ratio_one_exactly():
    logprobs = torch.tensor([-0.1, -3.7, -80.0], requires_grad=True)
    advantages = torch.tensor([0.3, -0.7, 1.1])
    losses, tally = token_losses(logprobs, torch.zeros(3), logprobs.detach(), advantages, CLIP, NEUTRAL)
    assert torch.equal(losses.detach(), -advantages)
    losses.sum().backward()
    assert torch.equal(logprobs.grad, -advantages)
    figures = tally.values()
    assert figures["policy/ratio_max"] == figures["policy/ratio_min"] == figures["policy/ratio_mean"] == 1
    assert figures["policy/kl_k1"] == figures["policy/kl_k3"] == 0


@pytest.mark.parametrize("log_ratio", [1e4, -1e4])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_extreme_log_ratios_stay_finite(log_ratio, advantage):
    logprobs = torch.tensor([0.0], requires_grad=True)
    plan = TokenPlan(kl_coef=1.0)
    losses, tally = token_losses(
        logprobs, torch.zeros(1), torch.tensor([-log_ratio]), torch.tensor([advantage]), CLIP, plan
    )
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logprobs.grad.tolist() == [0.0]  # beyond the clamp nothing is learned
    assert all(math.isfinite(value) for value in tally.values().values())


def test_weight_scales_the_surrogate():
    assert token(advantage=2.0, plan=TokenPlan(weight=0.25))[:2] == (-0.5, -0.5)


@pytest.mark.parametrize("weight", [0.0, torch.tensor([0.0])])
def test_weight_zero_drops_the_surrogate_exactly(weight):
    loss, gradient, _ = token(ratio=1.1, advantage=-3.0, plan=TokenPlan(weight=weight))
    assert (loss, gradient) == (0, 0)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_nothing_of_a_dropped_token_reaches_a_gradient(bad):
    logprobs = torch.tensor([-1.0, -1.0], requires_grad=True)
    plan = TokenPlan(weight=torch.tensor([0.0, 1.0]))
    losses, _ = token_losses(logprobs, torch.zeros(2), logprobs.detach(), torch.tensor([bad, 2.0]), CLIP, plan)
    losses.sum().backward()
    assert losses.tolist() == [0.0, -2.0]
    assert logprobs.grad.tolist() == [0.0, -2.0]


def test_entropy_coefficient_rewards_entropy():
    loss, gradient, entropy_gradient = token(advantage=0.0, entropy=0.5, plan=TokenPlan(entropy_coef=0.1))
    assert loss == pytest.approx(-0.05)
    assert gradient == 0
    assert entropy_gradient == pytest.approx(-0.1)


@pytest.mark.parametrize(("ratio", "sign"), [(math.e, 1.0), (1 / math.e, -1.0)])
def test_kl_coefficient_pulls_the_log_ratio_to_zero_from_both_sides(ratio, sign):
    # |log r| = 1 on both sides, and its gradient is the sign.
    loss, gradient, _ = token(ratio, advantage=0.0, plan=TokenPlan(kl_coef=0.3))
    assert (loss, gradient) == (pytest.approx(0.3), pytest.approx(0.3 * sign))


def test_a_dropped_token_keeps_its_penalty_and_its_entropy():
    plan = TokenPlan(weight=torch.tensor([0.0]), kl_coef=torch.tensor([0.3]), entropy_coef=torch.tensor([0.1]))
    loss, gradient, entropy_gradient = token(math.e, advantage=5.0, plan=plan)
    assert loss == pytest.approx(0.3 - 0.05)
    assert (gradient, entropy_gradient) == (pytest.approx(0.3), pytest.approx(-0.1))


def test_plan_fields_may_differ_by_token():
    # Ratio 1.25 under thresholds high of 0.3 and 0.1, then ratio 0.75 under low of 0.2 and 0.5.
    logprobs = torch.log(torch.tensor([1.25, 1.25, 0.75, 0.75])).requires_grad_()
    plan = TokenPlan(
        weight=torch.tensor([1.0, 1.0, 1.0, 3.0]),
        clip_high=torch.tensor([0.3, 0.1, 0.3, 0.3]),
        clip_low=torch.tensor([0.2, 0.2, 0.2, 0.5]),
    )
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    losses, tally = token_losses(logprobs, torch.zeros(4), torch.zeros(4), advantages, CLIP, plan)
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.tensor([-1.25, -1.1, 0.8, 2.25]))
    torch.testing.assert_close(logprobs.grad, torch.tensor([-1.25, 0.0, 0.0, 2.25]))
    assert tally.values()["policy/clip_high_share"] == 0.25
    assert tally.values()["policy/clip_low_share"] == 0.25


def test_a_scalar_bound_of_the_plan_replaces_the_configured_one():
    assert token(1.25, 1.0, plan=TokenPlan(clip_high=0.1))[0] == pytest.approx(-1.1)
    assert token(0.5, -1.0, plan=TokenPlan(clip_low=0.6))[0] == pytest.approx(0.5)


def test_the_gradient_is_whole_at_a_bound():
    # A ratio exactly on a bound is not clipped yet.
    assert token(1.0, 2.0, clip=ClipConfig(low=0.0, high=0.0))[1] == -2.0


def test_figures_by_hand():
    ratios = torch.tensor([2.0, 0.5, 1.0])
    _, tally = token_losses(
        ratios.log(), torch.tensor([0.1, 0.2, 0.6]), torch.zeros(3), torch.tensor([1.0, -1.0, 1.0]), CLIP, NEUTRAL
    )
    ln2 = math.log(2)
    assert tally.values() == {
        "policy/clip_low_share": pytest.approx(1 / 3),
        "policy/clip_high_share": pytest.approx(1 / 3),
        "policy/ratio_mean": pytest.approx(3.5 / 3),
        "policy/ratio_max": pytest.approx(2.0),
        "policy/ratio_min": pytest.approx(0.5),
        "policy/kl_k1": pytest.approx(0, abs=1e-6),  # -(ln 2 - ln 2 + 0) / 3
        "policy/kl_k3": pytest.approx(((2 - 1 - ln2) + (0.5 - 1 + ln2)) / 3),
        "policy/loss": pytest.approx((-1.3 + 0.8 - 1.0) / 3),
        "entropy/update_mean": pytest.approx(0.3),
    }


def test_no_tokens():
    losses, tally = token_losses(*[torch.zeros(0)] * 4, CLIP, NEUTRAL)
    assert losses.shape == (0,)
    assert tally.values() == {}
