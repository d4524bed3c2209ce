"""Log-probability and exact entropy straight from hidden states, without ever holding [tokens, vocabulary] logits.

The function replaces the LM head's own `forward`, so that ZeRO-3's hooks, which gather the weight around that module,
still fire.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn


class _LinearLogprobEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, chunk_tokens):
        logprobs = hidden.new_empty(len(targets), dtype=_exact(hidden.dtype))
        entropies = torch.empty_like(logprobs)
        log_normalisers = torch.empty_like(logprobs)
        for rows in _chunks(len(targets), chunk_tokens):
            logits = _logits(hidden[rows], weight, temperature)
            lse = logits.logsumexp(-1)
            logprobs[rows] = logits.gather(-1, targets[rows, None]).squeeze(-1) - lse
            # H = lse - E[z], taken over z - lse so that large logits lose no digits.
            logits -= lse[:, None]
            entropies[rows] = -(logits.exp() * logits).sum(-1)
            log_normalisers[rows] = lse
        ctx.save_for_backward(hidden, weight, targets, log_normalisers, entropies)
        ctx.temperature, ctx.chunk_tokens = temperature, chunk_tokens
        return logprobs, entropies

    @staticmethod
    def backward(ctx, grad_logprobs, grad_entropies):
        hidden, weight, targets, log_normalisers, entropies = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=_exact(weight.dtype))
        for rows in _chunks(len(targets), ctx.chunk_tokens):
            logp = _logits(hidden[rows], weight, ctx.temperature) - log_normalisers[rows, None]
            p = logp.exp()
            # d logp_y / dz_j = 1[j = y] - p_j  and  dH / dz_j = -p_j (log p_j + H)
            grad = -p * (grad_logprobs[rows, None] + grad_entropies[rows, None] * (logp + entropies[rows, None]))
            grad.scatter_add_(-1, targets[rows, None], grad_logprobs[rows, None])
            grad /= ctx.temperature
            grad = grad.to(weight.dtype)
            grad_hidden[rows] = grad @ weight
            grad_weight += grad.T @ hidden[rows]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None


def _chunks(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _logits(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    return (hidden @ weight.T).to(_exact(hidden.dtype)) / temperature


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def linear_logprob_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float, chunk_tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of softmax(hidden @ weight.T / temperature): the log-probability of each target, and the exact entropy in nats.

    hidden   [tokens, width]; weight [vocabulary, width], same dtype; targets int64 [tokens]
    returns  two float32 [tokens] (float64 where hidden is), both with gradients to hidden and weight
    """
    if hidden.ndim != 2 or weight.ndim != 2 or targets.shape != hidden.shape[:1]:
        raise ValueError(f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)}, targets {tuple(targets.shape)}")
    return _LinearLogprobEntropy.apply(hidden, weight, targets, temperature, chunk_tokens)


@dataclass
class TargetTokens:
    """What the next forward of the head shall score.

    positions  int64 [selected] into the flattened [batch * time] hidden states
    targets    int64 [selected], the token that each position predicts
    """

    positions: torch.Tensor
    targets: torch.Tensor


class ScoringHead:
    """Takes the place of an `nn.Linear` LM head's forward; returns [2, selected] log-probs and entropies."""

    def __init__(self, head: nn.Linear, temperature: float, chunk_tokens: int):
        _check_supported(head)
        self.request: TargetTokens | None = None
        self._temperature = temperature
        self._chunk_tokens = chunk_tokens
        self._head = head
        head.forward = self._forward  # type: ignore[method-assign, assignment]

    @contextmanager
    def at_temperature(self, temperature: float) -> Iterator[None]:
        """Score at another temperature for a while."""
        usual = self._temperature
        self._temperature = temperature
        try:
            yield
        finally:
            self._temperature = usual

    def _forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.request is None:
            raise RuntimeError("the head was called without target tokens")
        request, self.request = self.request, None
        selected = hidden.reshape(-1, hidden.shape[-1])[request.positions]
        both = linear_logprob_entropy(
            selected, self._head.weight, request.targets, self._temperature, self._chunk_tokens
        )
        return torch.stack(both)


def _check_supported(head: nn.Module) -> None:
    if type(head) is not nn.Linear or head.bias is not None:
        raise TypeError(f"the fused LM head supports a plain nn.Linear without bias, not {head}")
