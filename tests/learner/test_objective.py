"""The terms of the objective together on single tokens by hand, what must stay finite, and the figures."""

import math

import pytest
import torch

from entropy.plan import NEUTRAL, TokenPlan
from learner.metrics import merged
from learner.objective import token_losses
from tests.learner.objectives import SURROGATES, objective, pass_tokens

CLIP = {"low": 0.2, "high": 0.3}


def apply(tokens, plan=NEUTRAL, **settings):
    losses, tally = token_losses(tokens, objective(**settings), plan)
    losses.sum().backward()
    return losses.tolist(), tokens.logprobs.grad.tolist(), tally.values()


def one(ratio=1.0, advantage=1.0, entropy=0.5, plan=NEUTRAL, clip=CLIP):
    """Loss of one token and its gradients to the log-probability and to the entropy."""
    tokens = pass_tokens([ratio], advantage, entropies=entropy)
    losses, gradient, _ = apply(tokens, plan, **clip)
    return losses[0], gradient[0], 0.0 if tokens.entropies.grad is None else tokens.entropies.grad.item()


def near(values):
    return pytest.approx(values, rel=1e-9, abs=1e-12)


def test_a_bound_of_the_plan_holds_where_none_is_configured():
    plan = TokenPlan(clip_low=0.2, clip_high=torch.tensor([0.3]))
    assert one(1.5, 2.0, clip={}, plan=plan)[0] == pytest.approx(-2.6)
    assert one(0.75, -2.0, clip={}, plan=plan)[0] == pytest.approx(1.6)


def test_a_scalar_bound_of_the_plan_replaces_the_configured_one():
    assert one(1.25, 1.0, plan=TokenPlan(clip_high=0.1))[0] == pytest.approx(-1.1)
    assert one(0.5, -1.0, plan=TokenPlan(clip_low=0.6))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_equal_policies_have_ratio_one_exactly(level):
    advantages = torch.tensor([0.3, -0.7, 1.1]).tolist()
    tokens = pass_tokens([1.0] * 3, advantages, sequence=[0, 1, 2], dtype=torch.float32)
    losses, gradient, figures = apply(tokens, **CLIP, ratio=level)
    assert losses == [-a for a in advantages]
    assert gradient == [-a for a in advantages]
    assert figures["policy/ratio_max"] == figures["policy/ratio_min"] == figures["policy/ratio_mean"] == 1
    assert figures["policy/kl_k1"] == figures["policy/kl_k3"] == 0


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_log_ratios_stay_finite(name, level, dtype):
    if (name, level) == ("ce_gppo", "sequence"):
        return  # has no meaning, and launch.validate_method refuses it
    extremes = [1e4, -1e4, 1e4, -1e4]
    tokens = pass_tokens(log_ratios=extremes, advantages=[1.0, 1.0, -1.0, -1.0], reference=1e4, dtype=dtype)
    settings = SURROGATES[name] | {"ratio": level, "reference": ("loss", 0.1, "k3")}
    losses, gradient, figures = apply(tokens, TokenPlan(kl_coef=1.0, entropy_coef=0.1), **settings)
    assert all(map(math.isfinite, losses))
    assert all(map(math.isfinite, figures.values()))
    assert all(map(math.isfinite, gradient))
    if name not in ("cispo", "ce_gppo"):
        assert gradient == [0.0] * 4  # beyond the clamp nothing is learned


def test_sequence_ratio_against_the_formula():
    # Sequences of 2 and 1 tokens, ratios sqrt(1.5 · 0.9) = 1.16 and 1.4, which is clipped to 1.3.
    tokens = pass_tokens([1.5, 0.9, 1.4], 2.0, sequence=[0, 0, 1])
    losses, gradient, figures = apply(tokens, **CLIP, ratio="sequence")
    ratio = math.sqrt(1.35)
    assert losses == near([-2 * ratio, -2 * ratio, -2.6])
    # Two losses of -2 s, each with the gradient -2 s / 2 to both tokens.
    assert gradient == near([-2 * ratio, -2 * ratio, 0.0])
    assert figures["policy/sequence_ratio_mean"] == near((ratio + 1.4) / 2)
    assert figures["policy/sequence_ratio_min"] == near(ratio)
    assert figures["policy/sequence_ratio_max"] == near(1.4)
    assert figures["policy/ratio_max"] == near(1.5)  # still of the tokens
    assert figures["policy/clip_high_share"] == near(1 / 3)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("name", ["unclipped", "sapo", "ppo", "ppo_dual"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_gradients_of_the_whole_loss_by_finite_differences(name, level, estimator):
    base = torch.tensor([0.4, -0.5, 0.1, 0.7, -0.1, 1.6], dtype=torch.float64)

    def total(log_ratios):
        tokens = pass_tokens(
            log_ratios=[0.0] * 6,
            advantages=[1.0, 1.0, -0.5, 2.0, 2.0, -0.3],
            mismatch=[0.3, 0.3, -0.2, 0.9, 0.0, 0.1],
            reference=[0.1, -0.4, 0.3, 0.2, 0.9, -1.0],
            sequence=[0, 0, 1, 2, 2, 3],
        )
        tokens = type(tokens)(**(vars(tokens) | {"logprobs": tokens.logprobs.detach() + log_ratios}))
        kind = "token_truncate" if level == "token" else "sequence_truncate"
        settings = {"reference": ("loss", 0.3, estimator), "correction": (kind, None, 1.5), "ratio": level}
        plan = TokenPlan(weight=0.7, kl_coef=0.2)
        return token_losses(tokens, objective(**(SURROGATES[name] | settings)), plan)[0].sum()

    assert torch.autograd.gradcheck(total, base.requires_grad_(), eps=1e-6, atol=1e-7)


def test_weight_scales_the_surrogate():
    assert one(advantage=2.0, plan=TokenPlan(weight=0.25))[:2] == (-0.5, -0.5)


def test_weights_of_plan_and_correction_multiply():
    tokens = pass_tokens([1.0], 2.0, mismatch=[math.log(4.0)])
    losses, gradient, _ = apply(tokens, TokenPlan(weight=torch.tensor([0.5])), correction=("token_truncate", None, 3.0))
    assert (losses, gradient) == (near([-3.0]), near([-3.0]))


@pytest.mark.parametrize("weight", [0.0, torch.tensor([0.0])])
def test_weight_zero_drops_the_surrogate_exactly(weight):
    loss, gradient, _ = one(ratio=1.1, advantage=-3.0, plan=TokenPlan(weight=weight))
    assert (loss, gradient) == (0, 0)


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_nothing_of_a_dropped_token_reaches_a_gradient(name, bad):
    tokens = pass_tokens(log_ratios=[bad, 0.0], advantages=[bad, 2.0])
    # Weight 0.5 at ratio 1: half of the unclipped -2, whatever the surrogate.
    losses, gradient, _ = apply(tokens, TokenPlan(weight=torch.tensor([0.0, 0.5])), **SURROGATES[name])
    assert losses[0] == gradient[0] == 0
    assert gradient[1] == near(-1.0)


def test_entropy_coefficient_rewards_entropy():
    loss, gradient, entropy_gradient = one(advantage=0.0, entropy=0.5, plan=TokenPlan(entropy_coef=0.1))
    assert loss == pytest.approx(-0.05)
    assert gradient == 0
    assert entropy_gradient == pytest.approx(-0.1)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(("ratio", "sign"), [(math.e, 1.0), (1 / math.e, -1.0)])
def test_kl_coefficient_pulls_the_tokens_log_ratio_to_zero(ratio, sign, level):
    # |log r| = 1 on both sides, and its gradient is the sign; the other token of the sequence has none.
    tokens = pass_tokens([ratio, 1.0], 0.0, sequence=[0, 0])
    losses, gradient, _ = apply(tokens, TokenPlan(kl_coef=0.3), ratio=level)
    assert (losses, gradient) == (near([0.3, 0.0]), near([0.3 * sign, 0.0]))


def test_a_dropped_token_keeps_its_penalties_and_its_entropy():
    zero, kl_coef, entropy_coef = torch.tensor([[0.0], [0.3], [0.1]], dtype=torch.float64)
    plan = TokenPlan(weight=zero, kl_coef=kl_coef, entropy_coef=entropy_coef)
    tokens = pass_tokens([math.e], 5.0, reference=-0.5)
    losses, gradient, _ = apply(tokens, plan, **CLIP, reference=("loss", 0.2, "k2"))
    assert losses == near([0.3 - 0.05 + 0.2 * 0.125])
    assert gradient == near([0.3 + 0.2 * 0.5])
    assert tokens.entropies.grad.tolist() == near([-0.1])


@pytest.mark.parametrize(("estimator", "value"), [("k1", 0.5), ("k2", 0.125), ("k3", math.exp(-0.5) - 0.5)])
def test_reference_divergence_is_a_term_and_a_figure(estimator, value):
    tokens = pass_tokens([1.0, 1.0], 2.0, reference=-0.5)
    losses, _, figures = apply(tokens, reference=("loss", 0.2, estimator))
    assert losses == near([-2 + 0.2 * value] * 2)
    assert figures["policy/kl_reference"] == near(value)


@pytest.mark.parametrize("place", ["none", "reward"])
def test_reference_divergence_is_no_term_elsewhere(place):
    tokens = pass_tokens([1.0], 2.0, reference=-0.5)
    losses, _, figures = apply(tokens, reference=(place, 0.2, "k3"))
    assert losses == [-2.0]
    assert "policy/kl_reference" not in figures


def test_reference_divergence_needs_the_reference():
    with pytest.raises(ValueError, match=r"reference\.place = loss needs the reference policy's log-probabilities"):
        apply(pass_tokens([1.0]), reference=("loss", 0.2, "k3"))


def test_plan_fields_may_differ_by_token():
    # Ratio 1.25 under thresholds high of 0.3 and 0.1, then ratio 0.75 under low of 0.2 and 0.5.
    plan = TokenPlan(
        weight=torch.tensor([1.0, 1.0, 1.0, 3.0]),
        clip_high=torch.tensor([0.3, 0.1, 0.3, 0.3]),
        clip_low=torch.tensor([0.2, 0.2, 0.2, 0.5]),
    )
    tokens = pass_tokens([1.25, 1.25, 0.75, 0.75], [1.0, 1.0, -1.0, -1.0], dtype=torch.float32)
    losses, gradient, figures = apply(tokens, plan, **CLIP)
    assert losses == pytest.approx([-1.25, -1.1, 0.8, 2.25])
    assert gradient == pytest.approx([-1.25, 0.0, 0.0, 2.25])
    assert figures["policy/clip_high_share"] == figures["policy/clip_low_share"] == 0.25


@pytest.mark.parametrize("field", ["weight", "clip_low", "clip_high"])
def test_single_tokens_cannot_be_steered_under_a_sequence_ratio(field):
    tokens = pass_tokens([1.0, 1.0], sequence=[0, 0])
    apply(tokens, TokenPlan(**{field: 0.5}), ratio="sequence")  # all tokens alike is fine
    with pytest.raises(ValueError, match=rf"sets {field} for single tokens.*algorithm\.ratio=token"):
        apply(tokens, TokenPlan(**{field: torch.tensor([0.5, 0.4])}), ratio="sequence")


@pytest.mark.parametrize("kind", ["token_truncate", "token_mask"])
def test_single_tokens_cannot_be_corrected_under_a_sequence_ratio(kind):
    with pytest.raises(ValueError, match=rf"correction\.kind = {kind} weighs single tokens"):
        apply(pass_tokens([1.0]), ratio="sequence", correction=(kind, None, 2.0))


def test_figures_by_hand():
    tokens = pass_tokens([4.0, 0.5, 1.0, 1.0], [-1.0, -1.0, 3.0, 0.0], entropies=[0.1, 0.3, 0.6, 0.4])
    _, _, figures = apply(tokens, **CLIP, dual_clip=3.0)
    ln2 = math.log(2)
    assert {name: value for name, value in figures.items() if not name.startswith("mismatch/")} == near(
        {
            "policy/clip_low_share": 1 / 4,
            "policy/clip_high_share": 0.0,
            "policy/clip_dual_share": 1 / 4,
            "policy/ratio_mean": 6.5 / 4,
            "policy/ratio_max": 4.0,
            "policy/ratio_min": 0.5,
            "policy/kl_k1": -ln2 / 4,  # -(2 ln 2 - ln 2) / 4
            "policy/kl_k3": ((4 - 1 - 2 * ln2) + (0.5 - 1 + ln2)) / 4,
            "policy/advantage_mean": 1 / 4,
            "policy/advantage_std": math.sqrt(11 / 4 - 1 / 16),
            "policy/advantage_max": 3.0,
            "policy/advantage_min": -1.0,
            "entropy/update_mean": 1.4 / 4,
            "entropy/update_positive_mean": 0.6,
            "entropy/update_negative_mean": 0.2,
        }
    )


def test_gate_is_a_figure_of_sapo():
    opening = 1 / (1 + math.exp(-1))
    _, _, figures = apply(pass_tokens([1.0, 2.0]), **SURROGATES["sapo"])
    assert figures["policy/gate_mean"] == near((1 + 4 * opening * (1 - opening)) / 2)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_no_tokens(level):
    tokens = pass_tokens([], reference=0.0)
    settings = {"reference": ("loss", 0.1, "k3"), "correction": ("geometric_mask", 0.5, 2.0)}
    losses, gradient, figures = apply(tokens, **CLIP, ratio=level, **settings)
    assert losses == gradient == []
    assert figures == {}


def test_figures_of_parts_are_those_of_the_whole():
    settings = objective(**CLIP, ratio="sequence", dual_clip=2.0, correction=("sequence_truncate", None, 1.2))
    columns = [
        [1.5, 0.9, 0.4, 3.0, 1.1],
        [1.0, 1.0, -2.0, -0.5, 0.0],
        [0.1, 0.2, 0.3, 0.4, 0.5],
        [0.2, -0.1, 0.3, 0.0, 0.1],
    ]

    def figures(*spans):
        tallies = []
        for start, stop, sequence in spans:
            ratios, advantages, entropies, mismatch = (column[start:stop] for column in columns)
            tokens = pass_tokens(ratios, advantages, entropies=entropies, mismatch=mismatch, sequence=sequence)
            tallies.append(token_losses(tokens, settings, NEUTRAL)[1])
        return merged(tallies).values()

    whole = figures((0, 5, [0, 0, 1, 2, 2]))
    assert figures((3, 5, [0, 0]), (0, 0, []), (0, 3, [0, 0, 1])) == near(whole)
