"""The fused head equals log_softmax, its entropy and its log-sum-exp, with their gradients, in tiles of any size."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import learner.fused_head as fused_head
from learner.fused_head import ScoringHead, TargetTokens, linear_logprob_entropy

TOKENS, WIDTH, VOCABULARY = 9, 5, 13
SUBSETS = [[0], [1], [2], [0, 1], [0, 1, 2]]  # of the outputs that a loss may use


def plain(hidden, weight, targets, temperature):
    """All logits at once, float64, by autograd."""
    logits = hidden.double() @ weight.double().T / temperature
    logp = logits.log_softmax(-1)
    return logp.gather(-1, targets[:, None]).squeeze(-1), -(logp.exp() * logp).sum(-1), logits.logsumexp(-1)


def inputs(dtype, scale=1.0, tokens=TOKENS, vocabulary=VOCABULARY):
    rng = torch.Generator().manual_seed(0)
    hidden = (scale * torch.randn(tokens, WIDTH, generator=rng)).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, WIDTH, generator=rng).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(vocabulary, (tokens,), generator=rng)


@pytest.fixture(params=[1, 12, 10**6], ids=lambda logits: f"tile{logits}")
def tile(request, monkeypatch):
    """Tiles of one logit, of a few, and of all."""
    monkeypatch.setitem(fused_head.TILE_LOGITS, "cpu", request.param)


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_values_and_gradients_in_float64(tile, temperature, chunk):
    hidden, weight, targets = inputs(torch.float64)
    upstream = torch.randn(3, TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = plain(hidden, weight, targets, temperature)
    got = linear_logprob_entropy(hidden, weight, targets, temperature, chunk)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)
    for outputs in SUBSETS:
        ours, theirs = (
            torch.autograd.grad(
                [values[i] for i in outputs], [hidden, weight], [upstream[i] for i in outputs], retain_graph=True
            )
            for values in (got, wanted)
        )
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_gradients_are_finite_differences(monkeypatch, temperature):
    monkeypatch.setitem(fused_head.TILE_LOGITS, "cpu", 12)
    hidden, weight, targets = inputs(torch.float64, tokens=5, vocabulary=7)
    for outputs in ([0], [1], [2]):

        def chosen(hidden, weight, outputs=outputs):
            found = linear_logprob_entropy(hidden, weight, targets, temperature, 4)
            return tuple(found[i] for i in outputs)

        assert torch.autograd.gradcheck(chosen, (hidden, weight))


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_float32_is_float64_to_six_digits(tile, chunk):
    hidden, weight, targets = inputs(torch.float32, scale=3.0)
    got, wanted = (
        f(hidden, weight, targets, 0.6, *more) for f, more in ((linear_logprob_entropy, [chunk]), (plain, []))
    )
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)
    ours, theirs = (
        torch.autograd.grad(values[0].sum() + values[1].sum(), [hidden, weight]) for values in (got, wanted)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [4, 100])
def test_bfloat16_differs_from_float32_by_the_rounding_of_the_products_alone(tile, chunk):
    hidden, weight, targets = inputs(torch.bfloat16)
    got = linear_logprob_entropy(hidden, weight, targets, 0.6, chunk)
    assert all(values.dtype == torch.float32 for values in got)
    # Of the logits that bfloat16 products give, everything is exact to float32.
    logits = (hidden @ weight.T).double() / 0.6
    rounded = plain(logits, torch.eye(VOCABULARY), targets, 1.0)
    torch.testing.assert_close([x.double() for x in got], list(rounded), atol=1e-5, rtol=1e-5)
    # A bfloat16 has 8 bits: logits up to 8 are rounded by up to 2^-6, over 0.6.
    wanted = plain(hidden.detach(), weight.detach(), targets, 0.6)
    torch.testing.assert_close([x.double() for x in got], list(wanted), atol=0.06, rtol=0)
    exact = [x.detach().float().requires_grad_() for x in (hidden, weight)]
    values = linear_logprob_entropy(*exact, targets, 0.6, chunk)
    theirs = torch.autograd.grad(values[0].sum() + values[1].sum(), exact)
    ours = torch.autograd.grad(got[0].sum() + got[1].sum(), [hidden, weight])
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine.float() - reference).norm() < 0.02 * reference.norm()


def test_a_sure_token_keeps_its_small_gradient_in_bfloat16():
    # p = 0.9998 rounds to 1 in bfloat16, but 1 - p must not become 0.
    hidden, weight = torch.tensor([[1.0]], dtype=torch.bfloat16), torch.tensor([[8.5], [0.0]], dtype=torch.bfloat16)
    weight.requires_grad_()
    linear_logprob_entropy(hidden, weight, torch.tensor([0]), 1.0, 1)[0].sum().backward()
    other = 1 / (1 + math.exp(8.5))
    torch.testing.assert_close(weight.grad.float(), torch.tensor([[other], [-other]]), rtol=2**-8, atol=0)


def test_weight_gradients_of_many_chunks_add_up_in_float32():
    # 1,024 times the same 2^-9 above a first 1 is lost entirely where the sum is kept in bfloat16.
    hidden = torch.tensor([[1.0]] + [[2.0**-9]] * 1024, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    linear_logprob_entropy(hidden, weight, torch.zeros(1025, dtype=torch.int64), 1.0, 1)[0].sum().backward()
    assert weight.grad[0].item() == pytest.approx(0.5 * (1 + 2), rel=2**-8)


def test_hidden_gradients_of_many_parts_add_up_in_float32(monkeypatch):
    monkeypatch.setitem(fused_head.TILE_LOGITS, "cpu", 1)
    hidden = torch.zeros(1, 1, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[1.0]] + [[2.0**-9]] * 1023, dtype=torch.bfloat16)
    linear_logprob_entropy(hidden, weight, torch.tensor([0]), 1.0, 1)[2].sum().backward()
    assert hidden.grad.item() == pytest.approx((1 + 1023 / 512) / 1024, rel=2**-7)


def test_equal_logits_have_the_entropy_of_the_uniform_distribution(tile):
    hidden = torch.zeros(2, WIDTH)
    found = linear_logprob_entropy(hidden, torch.randn(VOCABULARY, WIDTH), torch.tensor([0, 5]), 0.6, 1)
    for values, wanted in zip(found, (-math.log(VOCABULARY), math.log(VOCABULARY), math.log(VOCABULARY)), strict=True):
        torch.testing.assert_close(values, torch.full((2,), wanted))


def test_two_tokens_by_hand(tile):
    # Logits (0, ln 3) at temperature 1/2 are (0, ln 9): probabilities 1/10 and 9/10.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3.0)]])
    logprobs, entropies, lse = linear_logprob_entropy(hidden, weight, torch.tensor([0]), 0.5, 1)
    assert logprobs.item() == pytest.approx(math.log(0.1), rel=1e-6)
    assert entropies.item() == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9), rel=1e-6)
    assert lse.item() == pytest.approx(math.log(10.0), rel=1e-6)


def test_a_vocabulary_of_one_token_is_certain(tile):
    hidden, weight, targets = inputs(torch.float32, vocabulary=1)
    logprobs, entropies, lse = linear_logprob_entropy(hidden, weight, targets, 0.6, 4)
    assert not logprobs.any()
    assert not entropies.any()
    torch.testing.assert_close(lse, (hidden @ weight.T).squeeze(1) / 0.6)
    for gradient in torch.autograd.grad(logprobs.sum() + entropies.sum(), [hidden, weight]):
        assert not gradient.any()


def test_extreme_logits_stay_finite(tile):
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    logprobs, entropies, lse = linear_logprob_entropy(hidden, weight, torch.tensor([0, 0]), 1.0, 1)
    torch.testing.assert_close(logprobs.detach(), torch.tensor([0.0, -2e4]))
    torch.testing.assert_close(entropies.detach(), torch.zeros(2))
    torch.testing.assert_close(lse.detach(), torch.full((2,), 1e4))
    (logprobs.sum() + entropies.sum()).backward()
    # d logp of the second row is (weight of the target - expected weight) = 1 - (-1).
    torch.testing.assert_close(hidden.grad, torch.tensor([[0.0], [2.0]]))
    assert weight.grad.isfinite().all()


def test_large_logits_lose_no_digits(tile):
    # Logits 10,000 and 9,999 at temperature 0.6: a float32 near 16,667 has steps of 0.002, the log-probs must not.
    hidden, weight = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[1e4], [9999.0]], requires_grad=True)
    logprobs, entropies, _ = linear_logprob_entropy(hidden, weight, torch.tensor([1]), 0.6, 1)
    p = 1 / (1 + math.exp(-1 / 0.6))
    assert logprobs.item() == pytest.approx(math.log(1 - p), abs=1e-6)
    assert entropies.item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=1e-6)
    logprobs.sum().backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-p], [p]]) / 0.6, atol=1e-6, rtol=1e-6)


def test_tokens_ruled_out_by_minus_infinity_in_all_but_name_weigh_nothing(tile):
    hidden, targets = torch.ones(2, 1, requires_grad=True), torch.tensor([0, 2])
    weight = torch.tensor([[0.0], [-1e30], [math.log(3.0)], [-1e30]], requires_grad=True)
    logprobs, entropies, lse = linear_logprob_entropy(hidden, weight, targets, 1.0, 1)
    torch.testing.assert_close(logprobs.detach(), torch.tensor([0.25, 0.75]).log())
    torch.testing.assert_close(entropies.detach(), torch.full((2,), 2 * math.log(2.0) - 0.75 * math.log(3.0)))
    (logprobs.sum() + entropies.sum() + lse.sum()).backward()
    assert weight.grad[[1, 3]].tolist() == [[0.0], [0.0]]
    assert hidden.grad.isfinite().all()


def test_one_target_of_every_token(tile):
    hidden, weight, _ = inputs(torch.float64)
    targets = torch.full((TOKENS,), 7)
    ours, theirs = (
        torch.autograd.grad(values[0].sum(), [hidden, weight])
        for values in (linear_logprob_entropy(hidden, weight, targets, 1.0, 4), plain(hidden, weight, targets, 1.0))
    )
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tokens(dtype):
    hidden, weight, targets = inputs(dtype, tokens=0)
    found = linear_logprob_entropy(hidden, weight, targets, 1.0, 4)
    assert all(values.shape == (0,) and values.dtype == torch.float32 for values in found)
    sum(values.sum() for values in found).backward()
    assert hidden.grad.shape == (0, WIDTH)
    assert weight.grad.dtype == dtype
    assert weight.grad.tolist() == torch.zeros(VOCABULARY, WIDTH).tolist()


def test_what_does_not_fit_is_refused():
    hidden, weight, targets = inputs(torch.float32)
    with pytest.raises(ValueError, match=r"targets \(8,\)"):
        linear_logprob_entropy(hidden, weight, targets[1:], 1.0, 4)
    with pytest.raises(ValueError, match=r"weight \(13, 4\)"):
        linear_logprob_entropy(hidden, weight[:, 1:], targets, 1.0, 4)
    with pytest.raises(ValueError, match=r"weight is torch\.float64"):
        linear_logprob_entropy(hidden, weight.double(), targets, 1.0, 4)
    for stray in (-100, VOCABULARY):
        with pytest.raises(ValueError, match="do not fit a vocabulary of 13"):
            linear_logprob_entropy(hidden, weight, targets.clone().index_fill_(0, torch.tensor(3), stray), 1.0, 4)


class Work(TorchDispatchMode):
    """Counts operations and the largest tensor that any of them gives."""

    def __init__(self):
        super().__init__()
        self.largest, self.products, self.calls = 0, 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.calls.append(name)
        self.products += name in ("mm", "addmm_")
        self.largest = max([self.largest, *(x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor))])
        return result


@pytest.mark.parametrize(("tokens", "vocabulary", "chunk"), [(64, 300, 64), (300, 64, 16), (300, 300, 1)])
def test_no_tensor_is_larger_than_a_tile_or_the_inputs(monkeypatch, tokens, vocabulary, chunk):
    monkeypatch.setitem(fused_head.TILE_LOGITS, "cpu", 600)
    hidden, weight, targets = inputs(torch.bfloat16, tokens=tokens, vocabulary=vocabulary)
    with Work() as work:
        found = linear_logprob_entropy(hidden, weight, targets, 0.6, chunk)
        sum(values.sum() for values in found).backward()
    # The largest is the pair of tile buffers, or the weight with its gradient.
    assert work.largest <= max(2 * 600, hidden.numel(), weight.numel()) < tokens * vocabulary / 10


def test_tiles_hold_no_more_tokens_than_asked_for():
    hidden, weight, targets = inputs(torch.float32)
    for chunk, tiles in ((1, 9), (4, 3), (9, 1), (100, 1)):
        with Work() as work:
            linear_logprob_entropy(hidden, weight, targets, 1.0, chunk)
        assert work.products == tiles


def kept_bytes(function) -> int:
    """Bytes that autograd keeps for the backward pass, apart from the inputs'."""
    sizes = []

    def pack(tensor):
        sizes.append(0 if tensor.is_leaf else tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(sizes)


def test_only_a_few_numbers_a_token_are_kept_for_the_backward_pass():
    hidden, weight, targets = inputs(torch.float32)
    assert kept_bytes(lambda: linear_logprob_entropy(hidden, weight, targets, 1.0, 4)) <= 4 * 4 * TOKENS
    with torch.no_grad():
        assert kept_bytes(lambda: linear_logprob_entropy(hidden, weight, targets, 1.0, 4)) == 0
        assert not any(values.requires_grad for values in linear_logprob_entropy(hidden, weight, targets, 1.0, 4))


def backward_work(hidden, weight, targets, weights_of_outputs):
    found = linear_logprob_entropy(hidden, weight, targets, 1.0, TOKENS)
    loss = (torch.stack(found) * torch.tensor(weights_of_outputs)[:, None]).sum()
    with Work() as work:
        loss.backward()
    return work


def test_what_nobody_asks_for_is_not_computed():
    hidden, weight, targets = inputs(torch.float32)
    whole = backward_work(hidden, weight, targets, [1.0, 1.0, 0.0])
    assert whole.products == 3
    assert "addcmul" in whole.calls  # the one pass of the entropy's gradient over the tile
    assert "addcmul" not in backward_work(hidden, weight, targets, [1.0, 0.0, 0.0]).calls
    assert backward_work(hidden.detach(), weight, targets, [1.0, 1.0, 0.0]).products == 2
    assert backward_work(hidden, weight.detach(), targets, [1.0, 1.0, 0.0]).products == 2


def test_a_frozen_side_does_not_change_the_others_gradient():
    hidden, weight, targets = inputs(torch.float64)
    both = torch.autograd.grad(linear_logprob_entropy(hidden, weight, targets, 1.0, 4)[0].sum(), [hidden, weight])
    for i, pair in enumerate([(hidden, weight.detach()), (hidden.detach(), weight)]):
        [alone] = torch.autograd.grad(linear_logprob_entropy(*pair, targets, 1.0, 4)[0].sum(), [pair[i]])
        torch.testing.assert_close(alone, both[i])


def test_second_derivatives_are_refused():
    hidden, weight, targets = inputs(torch.float64)
    logprobs, *_ = linear_logprob_entropy(hidden, weight, targets, 1.0, 4)
    [gradient] = torch.autograd.grad(logprobs.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_scoring_head_scores_the_requested_positions_once():
    module = nn.Linear(WIDTH, VOCABULARY, bias=False)
    head = ScoringHead(module, chunk_tokens=2)
    hidden = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    positions, targets = torch.tensor([5, 0]), torch.tensor([1, 12])
    rows = hidden.reshape(6, WIDTH)[positions]

    def check(temperature):
        head.request = TargetTokens(positions, targets, temperature)
        wanted = torch.stack(plain(rows, module.weight, targets, temperature)[:2])
        torch.testing.assert_close(module(hidden).double(), wanted, atol=1e-5, rtol=1e-5)

    check(0.6)
    with pytest.raises(RuntimeError, match="without target tokens"):
        module(hidden)
    check(1.0)
