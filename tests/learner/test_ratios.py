"""Ratios of tokens and sequences, and what the estimators of the divergence estimate, exact over a vocabulary."""

import math

import pytest
import torch

from learner.ratios import log_ratios, reference_divergence
from tests.learner.objectives import pass_tokens

ESTIMATORS = ("k1", "k2", "k3")


def test_sequence_ratio_by_hand():
    # Sequences of 3 and of 1 token: means (0.3 + 0.6 - 0.3) / 3 = 0.2 and -0.5.
    tokens = pass_tokens(log_ratios=[0.3, 0.6, -0.3, -0.5], sequence=[0, 0, 0, 1])
    ratios = log_ratios(tokens, "sequence")
    torch.testing.assert_close(ratios.detach(), torch.tensor([0.2, 0.2, 0.2, -0.5], dtype=torch.float64))
    ratios[0].backward()  # one token's ratio has a gradient to all tokens of its sequence
    torch.testing.assert_close(tokens.logprobs.grad, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0], dtype=torch.float64))


def test_sequence_ratio_clamps_the_mean_and_not_its_terms():
    # Clamped terms would give (20 - 20 - 20) / 3; the mean is (30 - 30 - 30) / 3 = -10.
    tokens = pass_tokens(log_ratios=[30.0, -30.0, -30.0], sequence=[0, 0, 0])
    torch.testing.assert_close(log_ratios(tokens, "sequence").detach(), torch.full((3,), -10.0, dtype=torch.float64))
    far = pass_tokens(log_ratios=[90.0, 0.0, 0.0], sequence=[0, 0, 0])
    assert log_ratios(far, "sequence").tolist() == [20.0] * 3


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("log_ratio", [1e4, -1e4, math.inf, -math.inf])
def test_extreme_ratios_are_clamped_and_teach_nothing(level, log_ratio):
    tokens = pass_tokens(log_ratios=[log_ratio, 0.0], sequence=[0, 1])
    ratios = log_ratios(tokens, level)
    assert ratios.tolist() == [math.copysign(20, log_ratio), 0]
    ratios.exp().sum().backward()
    assert tokens.logprobs.grad.tolist() == [0.0, 1.0]


def test_equal_policies_have_ratio_one_exactly():
    tokens = pass_tokens(log_ratios=[0.0] * 7, sequence=[0] * 7, dtype=torch.float32)
    assert log_ratios(tokens, "sequence").exp().tolist() == [1.0] * 7


def test_no_tokens_have_no_ratios():
    tokens = pass_tokens(log_ratios=[])
    for level in ("token", "sequence"):
        ratios = log_ratios(tokens, level)
        ratios.sum().backward()
        assert ratios.shape == (0,)


@pytest.mark.parametrize(
    ("estimator", "value", "gradient"),
    [("k1", 0.5, 1.0), ("k2", 0.125, 0.5), ("k3", math.exp(-0.5) - 0.5, 1 - math.exp(-0.5))],
)
def test_divergence_by_hand(estimator, value, gradient):
    # log pi - log ref = 0.5, so d = -0.5.
    logprobs = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    found = reference_divergence(logprobs, torch.tensor([-1.5], dtype=torch.float64), estimator)
    found.sum().backward()
    assert found.item() == pytest.approx(value, rel=1e-12)
    assert logprobs.grad.item() == pytest.approx(gradient, rel=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("distance", [1e4, -1e4, math.inf, -math.inf])
def test_extreme_divergences_stay_finite(estimator, distance):
    logprobs = torch.tensor([-1.0], dtype=torch.float32, requires_grad=True)
    found = reference_divergence(logprobs, logprobs.detach() + distance, estimator)
    found.sum().backward()
    assert found.isfinite().all()
    assert logprobs.grad.tolist() == [0.0]


def expectation(estimator):
    """E over pi of the estimator and of its gradient to the logits, the draws' probabilities held."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.0, 0.7, 1.0, -0.4], dtype=torch.float64).log_softmax(0)
    logprobs = logits.log_softmax(0)
    probabilities = logprobs.detach().exp()
    mean = (probabilities * reference_divergence(logprobs, reference, estimator)).sum()
    mean.backward()
    return mean.item(), logits.grad, logits.detach().clone().requires_grad_(), reference


def kl(first, second):
    return (first.exp() * (first - second)).sum()


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator):
    mean, _, logits, reference = expectation(estimator)
    assert mean == pytest.approx(kl(logits.log_softmax(0), reference).item(), rel=1e-12)


def test_gradient_of_k1_has_expectation_zero():
    _, gradient, _, _ = expectation("k1")
    torch.testing.assert_close(gradient, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-15)


def test_gradient_of_k2_is_that_of_the_reverse_kl():
    _, gradient, logits, reference = expectation("k2")
    kl(logits.log_softmax(0), reference).backward()
    torch.testing.assert_close(gradient, logits.grad)


def test_gradient_of_k3_is_that_of_the_forward_kl():
    _, gradient, logits, reference = expectation("k3")
    kl(reference, logits.log_softmax(0)).backward()
    torch.testing.assert_close(gradient, logits.grad)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"algorithm\.ratio = word"):
        log_ratios(pass_tokens([1.0]), "word")
    with pytest.raises(ValueError, match=r"reference\.estimator = k4"):
        reference_divergence(torch.zeros(1), torch.zeros(1), "k4")
