"""What an update did to the entropy of the policy, and what first-order theory says it should have done.

Cui et al. 2025 (arXiv 2505.22617): Lemma 1 holds for any network with the logit changes that were measured; theorems 1
and 2 put the change that a tabular policy makes under plain gradient descent in their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from entropy.covariance import discriminators


def predicted_change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Lemma 1: -Cov_{a ~ p}(log p(a), z'(a) - z(a)) of each state, float [states].

    before, after  float [states, vocabulary]: tempered logits of the same states before and after an update
    """
    logp = before.log_softmax(-1)
    p = logp.exp()
    return -_covariance(p, logp, after - before)


def observed_change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """H(after) - H(before) of each state, exactly: float [states]."""
    return entropies(after) - entropies(before)


def policy_gradient_change(logits: torch.Tensor, advantages: torch.Tensor, rate: float) -> torch.Tensor:
    """Theorem 1: -rate · Cov_{a ~ p}(log p(a), p(a) A(a)) of each state, float [states].

    advantages  float [states, vocabulary], of every action
    """
    logp = logits.log_softmax(-1)
    p = logp.exp()
    return -rate * _covariance(p, logp, p * advantages)


def natural_gradient_change(logits: torch.Tensor, advantages: torch.Tensor, rate: float) -> torch.Tensor:
    """Theorem 2: -rate · Cov_{a ~ p}(log p(a), A(a)) of each state, float [states]."""
    logp = logits.log_softmax(-1)
    return -rate * _covariance(logp.exp(), logp, advantages)


def sampled_policy_gradient_change(
    logits: torch.Tensor, chosen: torch.Tensor, advantages: torch.Tensor, rate: float
) -> torch.Tensor:
    """Theorem 1 from one drawn action of each state: -rate · A (S_y - Σ_v p_v S_v), S_v = p_v (log p_v + H).

    The change to first order of the entropy of a state whose logits move by rate · A (e_y - p). Its mean over y ~ p is
    `policy_gradient_change` of advantages whose own mean over y ~ p is zero (lemma 3).

    logits  float [states, vocabulary]; chosen int64 [states], the y; advantages float [states], of it
    """
    return -rate * advantages * discriminators(logits, chosen)


def sampled_natural_gradient_change(
    logits: torch.Tensor, chosen: torch.Tensor, advantages: torch.Tensor, rate: float
) -> torch.Tensor:
    """Theorem 2 from one drawn action of each state: -rate · A (log p_y + H), float [states].

    Arguments as of `sampled_policy_gradient_change`; its mean over y ~ p is `natural_gradient_change`.
    """
    logp = logits.log_softmax(-1).gather(-1, chosen[:, None]).squeeze(-1)
    return -rate * advantages * (logp + entropies(logits))


def _covariance(p: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    # A token of probability zero has an infinite log-probability and no weight.
    x = torch.where(p > 0, x, torch.zeros_like(x))
    y = torch.where(p > 0, y, torch.zeros_like(y))
    centred = x - (p * x).sum(-1, keepdim=True)
    return (p * centred * y).sum(-1)


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """H of each state in nats, float [states]."""
    logp = logits.log_softmax(-1)
    return -torch.where(logp.isneginf(), torch.zeros_like(logp), logp.exp() * logp).sum(-1)


@dataclass(frozen=True)
class EntropyChange:
    """Of one update, over probed states.

    observed, predicted  means over the states, in nats
    agreement            Pearson correlation of the two over the states; NaN where one does not vary
    """

    observed: float
    predicted: float
    agreement: float
    states: int


def entropy_change(before: torch.Tensor, after: torch.Tensor) -> EntropyChange:
    """Of logits [states, vocabulary] at the same states before and after an update; NaN without states."""
    if not len(before):
        return EntropyChange(float("nan"), float("nan"), float("nan"), 0)
    before, after = before.double(), after.double()
    observed, predicted = observed_change(before, after), predicted_change(before, after)
    varies = len(before) > 1 and float(observed.std()) > 0 and float(predicted.std()) > 0
    agreement = float(torch.corrcoef(torch.stack([observed, predicted]))[0, 1]) if varies else float("nan")
    return EntropyChange(float(observed.mean()), float(predicted.mean()), agreement, len(before))


@dataclass(frozen=True)
class Alarm:
    """What is wrong with a curve of entropy, in words."""

    kind: str  # collapse | surge
    sentence: str


def entropy_alarm(entropies: Sequence[float], collapse: float | None, surge: float | None) -> Alarm | None:
    """Whether the entropy of the last rollout batch is far from that of the first.

    entropies  mean token entropy of each rollout batch so far, the first before any update
    collapse   share of the first below which the policy has collapsed; None for no such alarm
    surge      multiple of the first above which it has surged; None for no such alarm
    """
    if len(entropies) < 2 or not entropies[0] > 0:
        return None
    first, last = entropies[0], entropies[-1]
    if collapse is not None and last < collapse * first:
        return Alarm(
            "collapse", f"entropy fell from {first:.3g} to {last:.3g} nats, below {collapse:g} times what it was"
        )
    if surge is not None and last > surge * first:
        return Alarm("surge", f"entropy rose from {first:.3g} to {last:.3g} nats, above {surge:g} times what it was")
    return None
