"""What an update did to the entropy of the policy, and what first-order theory says it should have done.

Cui et al. 2025 (arXiv 2505.22617): Lemma 1 holds for any network with the logit changes that were measured; theorems 1
and 2 put the change that a tabular policy makes under plain gradient descent in their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from entropy.states import States


def predicted_change(before: States, after: States) -> torch.Tensor:
    """Lemma 1: -Cov_{a ~ p}(log p(a), z'(a) - z(a)) of each state, float [states]; of the same states, in order."""
    return -before.covariance(after.logits - before.logits)


def observed_change(before: States, after: States) -> torch.Tensor:
    """H(after) - H(before) of each state, exactly: float [states]."""
    return after.entropies - before.entropies


def policy_gradient_change(states: States, advantages: torch.Tensor, rate: float) -> torch.Tensor:
    """Theorem 1: -rate · Cov_{a ~ p}(log p(a), p(a) A(a)) of each state, float [states].

    advantages  float [states, vocabulary], of every action
    """
    return -rate * states.covariance(states.p * advantages)


def natural_gradient_change(states: States, advantages: torch.Tensor, rate: float) -> torch.Tensor:
    """Theorem 2: -rate · Cov_{a ~ p}(log p(a), A(a)) of each state, float [states]."""
    return -rate * states.covariance(advantages)


def sampled_policy_gradient_change(
    states: States, chosen: torch.Tensor, advantages: torch.Tensor, rate: float
) -> torch.Tensor:
    """Theorem 1 from one drawn action of each state: -rate · A (S_y - Σ_v p_v S_v), S_v = p_v (log p_v + H).

    The change to first order of the entropy of a state whose logits move by rate · A (e_y - p). Its mean over y ~ p is
    `policy_gradient_change` of advantages whose own mean over y ~ p is zero (lemma 3).

    chosen  int64 [states], the y; advantages float [states], of it
    """
    return -rate * advantages * states.discriminators(chosen)


def sampled_natural_gradient_change(
    states: States, chosen: torch.Tensor, advantages: torch.Tensor, rate: float
) -> torch.Tensor:
    """Theorem 2 from one drawn action of each state: -rate · A (log p_y + H), float [states].

    Arguments as of `sampled_policy_gradient_change`; its mean over y ~ p is `natural_gradient_change`.
    """
    return -rate * advantages * (states.logprobs(chosen) + states.entropies)


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
    old, new = States.of(before.double()), States.of(after.double())
    observed, predicted = observed_change(old, new), predicted_change(old, new)
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
