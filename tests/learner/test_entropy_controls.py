"""Plans of the entropy controls in the objective: losses and gradients worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from entropy.config import SignOnlyConfig
from entropy.controls.covariance import ClipCov, KlCov
from entropy.controls.positive_advantage import PositiveAdvantage
from entropy.controls.tokens import SignOnly
from entropy.plan import NEUTRAL, TokenPlan
from learner.objective import token_losses
from tests.entropy.control_tokens import CLIP_COV, KL_COV, REWEIGHTING, tokens_of
from tests.learner.objectives import objective, pass_tokens

RATIOS = [0.5, 0.9, 1.0, 1.1, 1.5] * 3
ADVANTAGES = [2.0] * 5 + [0.0] * 5 + [-1.5] * 5
CLIPPED = objective(low=0.2, high=0.3)


def update_tokens():
    return tokens_of(np.linspace(-3, -1, 15), ADVANTAGES, [5, 5, 5])


def losses_and_gradients(plan: TokenPlan, config=CLIPPED, ratios=RATIOS, advantages=ADVANTAGES):
    tokens = pass_tokens(ratios, advantages)
    losses, _ = token_losses(tokens, config, plan)
    losses.sum().backward()
    return losses.detach(), tokens.logprobs.grad


def reweighted(weight: float, positive: str = "above_zero") -> TokenPlan:
    control = PositiveAdvantage(replace(REWEIGHTING, initial=weight, positive=positive), 10)
    return control.plan(update_tokens()).plan


@pytest.mark.parametrize(
    "plan",
    [
        reweighted(1.0),
        ClipCov(replace(CLIP_COV, rate=0.0), 0).plan(update_tokens()).plan,
        KlCov(replace(KL_COV, rate=0.0), 0).plan(update_tokens()).plan,
        KlCov(replace(KL_COV, coef=0.0), 0).plan(update_tokens()).plan,
    ],
    ids=["weight 1", "clip_cov rate 0", "kl_cov rate 0", "kl_cov coef 0"],
)
def test_a_control_that_does_nothing_is_the_plain_objective_bit_for_bit(plan):
    for found, expected in zip(losses_and_gradients(plan), losses_and_gradients(NEUTRAL), strict=True):
        assert torch.equal(found, expected)


def test_weight_zero_drops_the_positive_and_leaves_the_others():
    plain, gradients = losses_and_gradients(NEUTRAL)
    for plan in (
        reweighted(0.0),
        reweighted(0.0, "from_zero"),
        SignOnly(SignOnlyConfig("negative")).plan(update_tokens()).plan,
    ):
        found, own = losses_and_gradients(plan)
        assert found.tolist() == [0.0] * 5 + plain[5:].tolist()
        assert own.tolist() == [0.0] * 5 + gradients[5:].tolist()


def test_keeping_the_positive_leaves_the_gradient_of_the_weight_zero_out():
    found, _ = losses_and_gradients(SignOnly(SignOnlyConfig("positive")).plan(update_tokens()).plan)
    plain, _ = losses_and_gradients(NEUTRAL)
    assert found.tolist() == plain[:10].tolist() + [0.0] * 5


@pytest.mark.parametrize("weight", [0.0625, 0.25, 0.75])
def test_weighing_the_clipped_surrogate_is_weighing_positive_advantages(weight):
    scaled = [weight * advantage if advantage > 0 else advantage for advantage in ADVANTAGES]
    found = losses_and_gradients(reweighted(weight))
    expected = losses_and_gradients(NEUTRAL, advantages=scaled)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-14, atol=0)


def test_clip_cov_takes_the_whole_gradient_of_the_chosen_and_nothing_else():
    # Scores 4.5, 3, -3 and -4.5, 0, 9: the first two lie in the band of 1 to 5.
    tokens = tokens_of([-1, -2, -6, -1, -4, -10], [2, 2, 2, -1, -1, -1], [3, 3])
    plan = ClipCov(CLIP_COV, 0).plan(tokens).plan
    given = {"ratios": [0.9, 1.1, 1.2, 0.9, 1.1, 1.25], "advantages": [2.0, 2, 2, -1, -1, -1]}
    _, gradients = losses_and_gradients(plan, **given)
    assert gradients.tolist() == pytest.approx([0, 0, -2.4, 0.9, 1.1, 1.25])
    assert gradients[:2].tolist() == [0, 0]


def test_kl_cov_adds_the_sign_of_the_log_ratio_at_the_chosen():
    tokens = tokens_of([-1, -2, -6, -1, -4, -10], [2, 2, 2, -1, -1, -1], [3, 3])
    plan = KlCov(KL_COV, 0).plan(tokens).plan  # coefficient 2 at the tokens with scores 4.5, 3 and 9
    given = {"ratios": [0.9, 1.1, 1.2, 0.9, 1.1, 1.25], "advantages": [2.0, 2, 2, -1, -1, -1]}
    losses, gradients = losses_and_gradients(plan, objective(), **given)
    assert gradients.tolist() == pytest.approx([-1.8 - 2, -2.2 + 2, -2.4, 0.9, 1.1, 1.25 + 2])
    plain, _ = losses_and_gradients(NEUTRAL, objective(), **given)
    added = [2 * abs(math.log(r)) for r in (0.9, 1.1)] + [0, 0, 0, 2 * math.log(1.25)]
    assert (losses - plain).tolist() == pytest.approx(added)


def test_kl_cov_does_nothing_while_the_policies_agree():
    plan = KlCov(KL_COV, 0).plan(tokens_of([-1, -2, -6, -1, -4, -10], [2, 2, 2, -1, -1, -1], [3, 3])).plan
    given = {"ratios": [1.0] * 6, "advantages": [2.0, 2, 2, -1, -1, -1]}
    for found, expected in zip(
        losses_and_gradients(plan, objective(), **given),
        losses_and_gradients(NEUTRAL, objective(), **given),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_on_policy_all_thresholds_coincide():
    given = {"ratios": [1.0] * 15}
    expected = losses_and_gradients(NEUTRAL, objective(), **given)
    for low, high in ((0.2, 0.2), (0.2, 0.28), (0.28, 0.2), (0.12, 0.2), (1.0, 1.0)):
        found = losses_and_gradients(NEUTRAL, objective(low=low, high=high), **given)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
