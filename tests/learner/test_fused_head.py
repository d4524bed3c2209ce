"""The fused head equals log_softmax and its entropy, with the gradients of autograd, in chunks of any size."""

import math

import pytest
import torch
from torch import nn

from learner.fused_head import ScoringHead, TargetTokens, linear_logprob_entropy

TOKENS, WIDTH, VOCABULARY = 9, 5, 13


def plain(hidden, weight, targets, temperature):
    """All logits at once, float64, by autograd."""
    logp = (hidden.double() @ weight.double().T / temperature).log_softmax(-1)
    return logp.gather(-1, targets[:, None]).squeeze(-1), -(logp.exp() * logp).sum(-1)


def inputs(dtype, scale=1.0):
    rng = torch.Generator().manual_seed(0)
    hidden = (scale * torch.randn(TOKENS, WIDTH, generator=rng)).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=rng).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(VOCABULARY, (TOKENS,), generator=rng)


@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_values_and_gradients(temperature, chunk):
    hidden, weight, targets = inputs(torch.float32)
    upstream = torch.randn(2, TOKENS, generator=torch.Generator().manual_seed(1))
    for outputs in ([0], [1], [0, 1]):  # each output alone, then both
        got = linear_logprob_entropy(hidden, weight, targets, temperature, chunk)
        wanted = plain(hidden, weight, targets, temperature)
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)
        ours = torch.autograd.grad([got[i] for i in outputs], [hidden, weight], [upstream[i] for i in outputs])
        theirs = torch.autograd.grad(
            [wanted[i] for i in outputs], [hidden, weight], [upstream[i].double() for i in outputs]
        )
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_gradients_are_finite_differences():
    hidden, weight, targets = inputs(torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: linear_logprob_entropy(h, w, targets, 0.6, 4), (hidden, weight))


def test_bfloat16_weights_are_scored_in_float32():
    hidden, weight, targets = inputs(torch.bfloat16)
    logprobs, entropies = linear_logprob_entropy(hidden, weight, targets, 1.0, 4)
    logits = (hidden @ weight.T).float()
    torch.testing.assert_close(logprobs, logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1))
    torch.testing.assert_close(entropies, torch.distributions.Categorical(logits=logits).entropy())
    (logprobs.sum() + entropies.sum()).backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16


def test_equal_logits_have_the_entropy_of_the_uniform_distribution():
    hidden = torch.zeros(2, WIDTH)
    logprobs, entropies = linear_logprob_entropy(hidden, torch.randn(VOCABULARY, WIDTH), torch.tensor([0, 5]), 0.6, 1)
    torch.testing.assert_close(entropies, torch.full((2,), math.log(VOCABULARY)))
    torch.testing.assert_close(logprobs, torch.full((2,), -math.log(VOCABULARY)))


def test_two_tokens_by_hand():
    # Logits (0, ln 3) at temperature 1/2 are (0, ln 9): probabilities 1/10 and 9/10.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3.0)]])
    logprobs, entropies = linear_logprob_entropy(hidden, weight, torch.tensor([0]), 0.5, 1)
    assert logprobs.item() == pytest.approx(math.log(0.1), rel=1e-6)
    assert entropies.item() == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9), rel=1e-6)


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    logprobs, entropies = linear_logprob_entropy(hidden, weight, torch.tensor([0, 0]), 1.0, 1)
    torch.testing.assert_close(logprobs.detach(), torch.tensor([0.0, -2e4]))
    torch.testing.assert_close(entropies.detach(), torch.zeros(2))
    (logprobs.sum() + entropies.sum()).backward()
    # d logp of the second row is (weight of the target - expected weight) = 1 - (-1).
    torch.testing.assert_close(hidden.grad, torch.tensor([[0.0], [2.0]]))
    assert weight.grad.isfinite().all()


def test_large_logits_lose_no_digits_of_the_entropy():
    hidden = torch.tensor([[1.0]])
    weight = torch.tensor([[1000.0], [1000.0]])
    _, entropies = linear_logprob_entropy(hidden, weight, torch.tensor([0]), 1.0, 1)
    assert entropies.item() == pytest.approx(math.log(2.0), abs=1e-4)


def test_no_tokens():
    hidden, weight = torch.zeros(0, WIDTH, requires_grad=True), torch.randn(VOCABULARY, WIDTH, requires_grad=True)
    logprobs, entropies = linear_logprob_entropy(hidden, weight, torch.zeros(0, dtype=torch.int64), 1.0, 4)
    assert logprobs.shape == entropies.shape == (0,)
    logprobs.sum().backward()
    assert hidden.grad.shape == (0, WIDTH)
    assert not weight.grad.any()


def test_shapes_that_do_not_fit_are_refused():
    hidden, weight, targets = inputs(torch.float32)
    with pytest.raises(ValueError, match=r"targets \(8,\)"):
        linear_logprob_entropy(hidden, weight, targets[1:], 1.0, 4)


class OtherLinear(nn.Linear):
    """A head whose forward may differ from a plain product."""


@pytest.mark.parametrize("head", [nn.Linear(2, 3, bias=True), OtherLinear(2, 3, bias=False), nn.Embedding(2, 3)])
def test_scoring_head_refuses_what_it_would_get_wrong(head):
    with pytest.raises(TypeError, match=r"plain nn\.Linear without bias"):
        ScoringHead(head, 1.0, 4)


def test_scoring_head_scores_the_requested_positions_once():
    module = nn.Linear(WIDTH, VOCABULARY, bias=False)
    head = ScoringHead(module, temperature=0.6, chunk_tokens=2)
    hidden = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    positions, targets = torch.tensor([5, 0]), torch.tensor([1, 12])
    rows = hidden.reshape(6, WIDTH)[positions]

    def check(temperature):
        head.request = TargetTokens(positions, targets)
        wanted = torch.stack(plain(rows, module.weight, targets, temperature))
        torch.testing.assert_close(module(hidden).double(), wanted, atol=1e-5, rtol=1e-5)

    check(0.6)
    with pytest.raises(RuntimeError, match="without target tokens"):
        module(hidden)
    with head.at_temperature(1.0):
        check(1.0)
    check(0.6)
