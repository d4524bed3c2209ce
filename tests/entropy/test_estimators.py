"""Estimators of entropy against definitions in float64, finite differences, closed forms and each other."""

import functools
import math

import numpy as np
import pytest
import torch

from entropy.estimators import (
    answer_entropy,
    entropy_gradient,
    importance_weighted_entropy,
    sampled_entropy,
    sequence_entropy,
    sequence_mean_entropy,
    token_entropy,
    top_k_bounds,
)

ROWS, VOCABULARY = 64, 500


def logits_of(scale: float, seed: int = 0) -> torch.Tensor:
    """float32 [ROWS, VOCABULARY], from nearly uniform (0.1) to nearly one-hot (30), off centre."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(ROWS, VOCABULARY, generator=generator) + 20


def naive(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """-Σ p ln p in float64, as it is written."""
    p = (logits.double() / temperature).exp()
    p = p / p.sum(-1, keepdim=True)
    return -torch.where(p > 0, p * p.clamp_min(1e-300).log(), 0.0).sum(-1)


def triple(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of a part of the vocabulary: largest logit M, s = Σ e^(z-M) and q = Σ (z-M) e^(z-M)."""
    most = logits.max(-1).values
    below = logits - most[..., None]
    return most, below.exp().sum(-1), (below * below.exp()).sum(-1)


def merged(first, second):
    """The triple of two parts together."""
    most = torch.maximum(first[0], second[0])
    sides = [(part[0] - most, *part[1:]) for part in (first, second)]
    return (
        most,
        sum(shift.exp() * s for shift, s, _ in sides),
        sum(shift.exp() * (q + shift * s) for shift, s, q in sides),
    )


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 30.0])
def test_every_way_to_the_exact_entropy_agrees_in_float32(scale, temperature):
    logits = logits_of(scale)
    expected = naive(logits, temperature)
    for chunk in (1, 7, 2048):
        found = token_entropy(logits, temperature, chunk)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    # Tiles of the vocabulary one after another, and two halves of it as two ranks hold them: H = ln s - q / s.
    tempered = logits / temperature
    tiles = functools.reduce(merged, map(triple, tempered.split(64, dim=-1)))
    halves = merged(*map(triple, tempered.chunk(2, dim=-1)))
    for _, s, q in (tiles, halves):
        torch.testing.assert_close((s.log() - q / s).double(), expected, rtol=0, atol=1e-5)


def test_chunks_are_the_same_to_the_last_bit():
    logits = logits_of(3.0)
    assert torch.equal(token_entropy(logits, chunk=1), token_entropy(logits, chunk=ROWS))


def test_shapes_and_types():
    logits = logits_of(1.0)
    assert torch.equal(token_entropy(logits.view(4, 16, -1)), token_entropy(logits).view(4, 16))
    assert token_entropy(logits[0]).shape == ()
    assert token_entropy(logits[:0]).shape == (0,)
    assert token_entropy(logits[:0].bfloat16()).dtype == torch.float32
    assert token_entropy(logits.double()).dtype == torch.float64
    half = logits.bfloat16()
    assert torch.equal(token_entropy(half), token_entropy(half.float()))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradient_is_the_closed_form_and_that_of_finite_differences(temperature):
    generator = torch.Generator().manual_seed(1)
    logits = (2 * torch.randn(3, 6, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: token_entropy(z, temperature, 2), [logits])
    (found,) = torch.autograd.grad(token_entropy(logits, temperature).sum(), logits)
    torch.testing.assert_close(found, entropy_gradient(logits.detach(), temperature), rtol=1e-10, atol=1e-14)
    step = 1e-6
    for state, token in ((0, 0), (1, 3), (2, 5)):
        moved = torch.zeros_like(logits)
        moved[state, token] = step
        above, below = (token_entropy(logits.detach() + sign * moved, temperature)[state] for sign in (1, -1))
        assert float(found[state, token]) == pytest.approx(float(above - below) / (2 * step), abs=1e-8)


def test_uniform_gives_ln_v_and_one_hot_zero():
    assert token_entropy(torch.full((1, 152_064), 3.0)).item() == pytest.approx(math.log(152_064), abs=1e-5)
    one_hot = torch.zeros(1, 1000, requires_grad=True)
    sharp = one_hot + 1e4 * torch.nn.functional.one_hot(torch.tensor([7]), 1000)
    entropy = token_entropy(sharp)
    assert entropy.item() == 0
    entropy.sum().backward()
    assert not one_hot.grad.any()


def test_masked_logits_give_no_nan_and_the_entropy_of_the_rest():
    free = logits_of(1.0)[:, :10].requires_grad_()
    masked = torch.cat([free, torch.full((ROWS, 4), -torch.inf)], dim=-1).detach().requires_grad_()
    token_entropy(free).sum().backward()
    entropy = token_entropy(masked)
    entropy.sum().backward()
    torch.testing.assert_close(entropy.detach(), token_entropy(free).detach())
    torch.testing.assert_close(masked.grad[:, :10], free.grad)
    assert not masked.grad[:, 10:].any()
    torch.testing.assert_close(entropy_gradient(masked.detach()), masked.grad, rtol=1e-4, atol=1e-6)


def test_temperature_raises_entropy_at_the_rate_of_the_variance_of_the_logits():
    """dH/dT = Var_p(z) / T^3."""
    logits, temperature, step = logits_of(1.0)[:4].double(), 0.8, 1e-5
    p = (logits / temperature).softmax(-1)
    variance = (p * logits**2).sum(-1) - (p * logits).sum(-1) ** 2
    slope = (token_entropy(logits, temperature + step) - token_entropy(logits, temperature - step)) / (2 * step)
    torch.testing.assert_close(slope, variance / temperature**3, rtol=1e-6, atol=0)


def test_sampled_entropy_converges_at_the_rate_of_its_variance():
    p = np.array([0.6, 0.3, 0.1])
    exact, variance = -(p * np.log(p)).sum(), (p * np.log(p) ** 2).sum() - (p * np.log(p)).sum() ** 2
    rng = np.random.default_rng(0)
    for count in (100, 10_000, 1_000_000):
        drawn = np.log(p)[rng.choice(3, count, p=p)]
        assert abs(sampled_entropy(drawn) - exact) < 4 * math.sqrt(variance / count)
    assert sampled_entropy(np.array([-1.0, -3.0])) == 2.0
    assert math.isnan(sampled_entropy(np.zeros(0)))


def test_importance_weights_give_the_entropy_of_the_other_policy():
    p, behaviour = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.2, 0.6])
    exact = -(p * np.log(p)).sum()
    drawn = np.random.default_rng(0).choice(3, 400_000, p=behaviour)
    found = importance_weighted_entropy(np.log(p)[drawn], np.log(behaviour)[drawn])
    assert found == pytest.approx(exact, abs=0.005)
    assert sampled_entropy(np.log(p)[drawn]) > exact + 0.5
    # With one token of each in the behaviour's shares the estimate is exact: weights 3, 1.5, 1/6.
    assert importance_weighted_entropy(np.log(p)[[0, 1, 2, 2, 2]], np.log(behaviour)[[0, 1, 2, 2, 2]]) == pytest.approx(
        exact, rel=1e-12
    )
    by_hand = -(2 * np.log(0.6) + 1.5 * np.log(0.3) + np.log(0.1) / 6) / (2 + 1.5 + 1 / 6)
    assert importance_weighted_entropy(np.log(p), np.log(behaviour), most=2.0) == pytest.approx(by_hand, rel=1e-12)


def test_importance_weights_of_extreme_ratios_stay_finite():
    logprobs, behaviour = np.array([-0.5, -1e4, -np.inf]), np.array([-1e4, -0.5, -1.0])
    assert importance_weighted_entropy(logprobs, behaviour) == 0.5
    assert math.isnan(importance_weighted_entropy(np.zeros(0), np.zeros(0)))


def test_top_k_bounds_hold_the_exact_value_in_thousands_of_cases():
    rng, gaps = np.random.default_rng(0), {}
    for vocabulary in (5, 50, 2000):
        for scale in (0.0, 0.3, 1.0, 3.0, 10.0):
            logits = scale * rng.normal(size=(150, vocabulary)) * rng.exponential(size=(150, 1))
            logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            exact = -(np.exp(logp) * logp).sum(-1)
            ordered = np.sort(logp, -1)[:, ::-1]
            for k in (1, 3, 5, 20, 100):
                if k > vocabulary:
                    continue
                lower, upper = top_k_bounds(ordered[:, :k], vocabulary)
                assert (lower <= exact + 1e-9).all()
                assert (exact <= upper + 1e-9).all()
                gaps[vocabulary, scale, k] = (upper - lower).mean()
                if k == vocabulary:
                    assert np.abs(upper - lower).max() < 1e-12
    assert gaps[2000, 1.0, 5] > gaps[2000, 1.0, 20] > gaps[2000, 1.0, 100] > 0.05
    assert gaps[2000, 10.0, 100] < gaps[2000, 1.0, 100]


def test_top_k_bounds_by_hand_are_attained():
    # Half of the mass is on the best token, and the other three share the rest: evenly, or all on one.
    lower, upper = top_k_bounds(np.log([[0.5]]), 4)
    assert upper == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(6))
    assert lower == pytest.approx(math.log(2))
    # Two of 0.4: a tail of 0.2 is one token at most, or spread over eight.
    lower, upper = top_k_bounds(np.log([[0.4, 0.4]]), 10)
    head = -0.8 * math.log(0.4)
    assert lower == pytest.approx(head - 0.2 * math.log(0.2))
    assert upper == pytest.approx(head - 0.2 * math.log(0.2 / 8))


def test_top_k_bounds_of_edges():
    assert top_k_bounds(np.array([[0.0, -np.inf]]), 5) == (0.0, 0.0)
    lower, upper = top_k_bounds(np.full((1, 3), -math.log(7)), 7)
    assert lower == pytest.approx(math.log(7))
    assert upper == pytest.approx(math.log(7))
    # Float32 log-probs may sum to more than 1.
    lower, upper = top_k_bounds(np.array([[1e-7, -20.0]], np.float32), 5)
    assert np.isfinite([lower, upper]).all()
    with pytest.raises(ValueError, match="3 log-probabilities of a vocabulary of 2"):
        top_k_bounds(np.zeros((1, 3)), 2)


def test_sequence_entropies_by_hand():
    entropies, lengths = np.array([1.0, 3.0, 0.5]), np.array([2, 0, 1])
    assert sequence_entropy(entropies, lengths) == 1.5
    assert sequence_mean_entropy(entropies, lengths) == (2.0 + 0.5) / 2
    assert math.isnan(sequence_entropy(np.zeros(0), np.zeros(0, int)))
    assert math.isnan(sequence_mean_entropy(np.zeros(0), np.zeros(2, int)))


def test_sequence_entropy_is_unbiased_by_the_chain_rule():
    """Two tokens, the second depending on the first: H(Y) by enumeration is the mean of the sums over sequences."""
    first, second = np.array([0.7, 0.3]), np.array([[0.9, 0.1], [0.5, 0.5]])

    def entropy(p):
        return -(p * np.log(p)).sum()

    joint = (first[:, None] * second).ravel()
    sums = np.array([[entropy(first), entropy(second[a])] for a in (0, 1)])
    # Ten sequences, seven of which begin with the first token.
    drawn = np.concatenate([np.tile(sums[0], 7), np.tile(sums[1], 3)])
    assert sequence_entropy(drawn, np.full(10, 2)) == pytest.approx(entropy(joint), rel=1e-12)


def test_answer_entropy_by_hand():
    assert answer_entropy(["7", "7", "8", None]) == pytest.approx(1.5 * math.log(2))
    assert answer_entropy(["7"] * 5) == 0
    assert answer_entropy([None, "None"]) == pytest.approx(math.log(2))
    assert math.isnan(answer_entropy([]))
