"""What an entropy control asks of one optimiser update."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

Field = float | torch.Tensor


@dataclass(frozen=True)
class TokenPlan:
    """Per-token settings of the objective for one update; each field is a scalar or a tensor [tokens].

    weight        factor on the surrogate of a token; 0 drops the token from the numerator
    kl_coef       coefficient of the penalty on the log-ratio to the policy before the batch's updates
    kl_penalty    of a token: abs (|log r|), k2 (log r squared, halved) or k3 (r - 1 - log r)
    entropy_coef  coefficient of the exact token entropy, subtracted from the loss
    clip_low      lower clip distance; None leaves the configured threshold in force
    clip_high     upper clip distance; None leaves the configured threshold in force
    """

    weight: Field = 1.0
    kl_coef: Field = 0.0
    kl_penalty: str = "abs"
    entropy_coef: Field = 0.0
    clip_low: Field | None = None
    clip_high: Field | None = None

    def select(self, index: torch.Tensor) -> "TokenPlan":
        """The plan of the tokens at `index` [selected]; scalars stay scalars."""

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        picked: Any = {name: v[index] for name, v in values.items() if isinstance(v, torch.Tensor)}
        return replace(self, **picked)

    def to(self, like: torch.Tensor) -> "TokenPlan":
        """The plan on the device and in the dtype of `like`; scalars stay scalars."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: Any = {name: v.to(like) for name, v in values.items() if isinstance(v, torch.Tensor)}
        return replace(self, **moved)


NEUTRAL = TokenPlan()


def composed(plans: Sequence[TokenPlan]) -> TokenPlan:
    """All of `plans` at once: weights multiply, coefficients add, a bound and a kind of penalty have one owner.

    Raises ValueError where two plans set the same bound, or penalise in two ways.
    """
    whole = NEUTRAL
    for plan in plans:
        whole = TokenPlan(
            weight=whole.weight * plan.weight,
            kl_coef=whole.kl_coef + plan.kl_coef,
            kl_penalty=_penalty(whole, plan),
            entropy_coef=whole.entropy_coef + plan.entropy_coef,
            clip_low=_owned("clip_low", whole.clip_low, plan.clip_low),
            clip_high=_owned("clip_high", whole.clip_high, plan.clip_high),
        )
    return whole


def _owned(name: str, first: Field | None, second: Field | None) -> Field | None:
    if first is not None and second is not None:
        raise ValueError(f"two entropy controls set {name}; a bound has one owner")
    return second if first is None else first


def _penalty(first: TokenPlan, second: TokenPlan) -> str:
    if not _penalises(second):
        return first.kl_penalty
    if _penalises(first) and first.kl_penalty != second.kl_penalty:
        raise ValueError(f"two entropy controls penalise in two ways, {first.kl_penalty} and {second.kl_penalty}")
    return second.kl_penalty


def _penalises(plan: TokenPlan) -> bool:
    return isinstance(plan.kl_coef, torch.Tensor) or plan.kl_coef != 0
