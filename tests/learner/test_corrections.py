"""The weights of each correction by hand, and metrics that do not depend on what is dropped."""

import math

import pytest
import torch

from entropy.plan import NEUTRAL
from learner.config import CorrectionConfig
from learner.corrections import KINDS, correction_weights
from learner.metrics import merged
from learner.objective import token_losses
from tests.learner.objectives import objective, pass_tokens

# rho of three sequences of two tokens: products 2, 0.125 and 3, geometric means 1.414, 0.354 and 1.732.
RHO = [4.0, 0.5, 0.5, 0.25, 1.0, 3.0]
SEQUENCE = [0, 0, 1, 1, 2, 2]


def tokens_of(rho=RHO, sequence=SEQUENCE):
    return pass_tokens([1.0] * len(rho), mismatch=[math.log(r) if r else -math.inf for r in rho], sequence=sequence)


def weights(kind, low=None, high=None, **given):
    found, tally = correction_weights(tokens_of(**given), CorrectionConfig(kind, low, high))
    return found.tolist(), tally.values()


def near(values):
    return pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("none", None, None, [1, 1, 1, 1, 1, 1]),
        ("token_truncate", None, 2.0, [2, 0.5, 0.5, 0.25, 1, 2]),
        ("token_mask", 0.5, 3.5, [0, 0.5, 0.5, 0, 1, 3]),
        ("token_mask", None, 3.5, [0, 0.5, 0.5, 0.25, 1, 3]),
        ("token_mask", 0.6, None, [4, 0, 0, 0, 1, 3]),
        ("sequence_truncate", None, 2.5, [2, 2, 0.125, 0.125, 2.5, 2.5]),
        ("sequence_mask", None, 2.5, [2, 2, 0.125, 0.125, 0, 0]),
        ("sequence_mask", 0.2, None, [2, 2, 0, 0, 3, 3]),
        ("geometric_mask", 0.5, 1.5, [1, 1, 0, 0, 0, 0]),
        ("geometric_mask", None, 1.5, [1, 1, 1, 1, 0, 0]),
    ],
)
def test_weights_by_hand(kind, low, high, expected):
    assert weights(kind, low, high)[0] == near(expected)


def test_metrics_are_of_the_ratios_before_the_mask():
    shares = {"correction/truncated_share": 0.0}
    total, squares = sum(RHO), sum(r * r for r in RHO)
    assert weights("token_mask", 0.5, 3.5)[1] == near(
        shares
        | {
            "mismatch/token_ratio_mean": total / 6,
            "mismatch/token_ratio_max": 4.0,
            "mismatch/token_ratio_chi_square": squares / 6 - 1,
            "mismatch/token_ratio_effective_share": total**2 / (6 * squares),
            "correction/dropped_token_share": 2 / 6,
            "correction/dropped_sequence_share": 0.0,  # each keeps a token
        }
    )
    products = [2.0, 0.125, 3.0]
    total, squares = sum(products), sum(p * p for p in products)
    assert weights("sequence_mask", 0.2, 2.5)[1] == near(
        shares
        | {
            "mismatch/sequence_ratio_mean": total / 3,
            "mismatch/sequence_ratio_max": 3.0,
            "mismatch/sequence_ratio_chi_square": squares / 3 - 1,
            "mismatch/sequence_ratio_effective_share": total**2 / (3 * squares),
            "correction/dropped_token_share": 4 / 6,
            "correction/dropped_sequence_share": 2 / 3,
        }
    )
    assert weights("token_truncate", None, 2.0)[1]["correction/truncated_share"] == near(2 / 6)
    assert weights("sequence_truncate", None, 2.5)[1]["correction/truncated_share"] == near(2 / 6)
    assert weights("geometric_mask", None, 1.5)[1]["mismatch/geometric_ratio_max"] == near(math.sqrt(3))


def test_without_a_correction_the_mismatch_is_still_measured():
    figures = weights("none")[1]
    assert set(figures) == {f"mismatch/token_ratio_{name}" for name in ("mean", "max", "chi_square", "effective_share")}


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_of_parts_are_those_of_the_whole(kind):
    high = None if kind == "none" else 2.5
    config = CorrectionConfig(kind, None, high)
    _, whole = correction_weights(tokens_of(), config)
    parts = [
        correction_weights(tokens_of(rho, sequence), config)[1]
        for rho, sequence in ((RHO[4:], [0, 0]), ([], []), (RHO[:4], [0, 0, 1, 1]))
    ]
    assert merged(parts).values() == near(whole.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mismatch", [1e4, -1e4, math.inf, -math.inf])
def test_extreme_mismatch_stays_finite(kind, mismatch):
    # A behaviour log-probability of -inf makes the mismatch infinite.
    tokens = pass_tokens([1.0, 1.0, 1.1], 2.0, mismatch=[mismatch, 0.0, 0.1], sequence=[0, 0, 1])
    config = objective(correction=(kind, None, None if kind == "none" else 2.0))
    losses, tally = token_losses(tokens, config, NEUTRAL)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert tokens.logprobs.grad.isfinite().all()
    assert all(math.isfinite(value) for value in tally.values().values())


def test_a_sum_of_logarithms_is_clamped_and_not_its_terms():
    rho = [math.exp(30), math.exp(-30), math.exp(-1)]
    assert weights("sequence_truncate", None, 9.0, rho=rho, sequence=[0, 0, 0])[0] == near([math.exp(-1)] * 3)


def test_decoupled_ppo_is_token_truncate():
    """min(prox / behaviour, high) · -min(u A, clip(u) A), u = pi / prox, with prox the old policy (AReaL)."""
    old_over_behaviour, ratios, advantages = [1.5, 0.5, 4.0], [1.6, 0.6, 1.1], [2.0, -1.0, 3.0]
    tokens = pass_tokens(ratios, advantages, mismatch=[math.log(x) for x in old_over_behaviour])
    config = objective(low=0.2, high=0.2, correction=("token_truncate", None, 2.0))
    losses, _ = token_losses(tokens, config, NEUTRAL)
    # 1.5 · -1.2 · 2; 0.5 · 0.8 · 1; capped at 2 · -1.1 · 3.
    assert losses.tolist() == near([-3.6, 0.4, -6.6])
    losses.sum().backward()
    assert tokens.logprobs.grad.tolist() == near([0.0, 0.0, -6.6])


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_nothing_of_a_dropped_token_reaches_a_gradient(bad):
    tokens = pass_tokens([1.0, 1.0], [bad, 2.0], mismatch=[9.0, 0.0])
    losses, _ = token_losses(tokens, objective(correction=("token_mask", None, 2.0)), NEUTRAL)
    losses.sum().backward()
    assert losses.tolist() == [0.0, -2.0]
    assert tokens.logprobs.grad.tolist() == [0.0, -2.0]


def test_weights_have_no_gradient():
    tokens = tokens_of()
    tokens.old_logprobs.requires_grad_()
    found, _ = correction_weights(tokens, CorrectionConfig("token_truncate", None, 2.0))
    assert not found.requires_grad
    assert found.dtype == torch.float64


@pytest.mark.parametrize("kind", ["token_truncate", "sequence_truncate"])
@pytest.mark.parametrize(("low", "high"), [(None, None), (0.5, 2.0)])
def test_truncation_takes_an_upper_bound_alone(kind, low, high):
    with pytest.raises(ValueError, match=r"needs correction\.high and takes no correction\.low"):
        weights(kind, low, high)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"correction\.kind = tis is unknown"):
        weights("tis")
