"""Values that are not finite: what an update is skipped for, and weights that must not leave the learner."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

# Why an update is skipped, in the order in which one leads to the next.
ADVANTAGES = "its advantages are not finite"
LOGPROBS = "its log-probabilities are not finite"
LOSS = "its loss is not finite"
GRADIENT = "the norm of its gradient is not finite"
CAUSES = (ADVANTAGES, LOGPROBS, LOSS, GRADIENT)


class NotFinite(ArithmeticError):
    """An update that cannot be made, on every rank alike. `cause` is one of the `CAUSES`."""

    def __init__(self, cause: str):
        super().__init__(cause)
        self.cause = cause


class WeightsNotFinite(FloatingPointError):
    """A weight or a moment of the optimizer became NaN or infinite. Nothing can be trained or drawn with it."""


class Skipped(NamedTuple):
    """An update that was not applied.

    number  its place in its rollout batch, from 0
    cause   one of the `CAUSES`
    """

    number: int
    cause: str


def check_finite(values: np.ndarray, cause: str) -> None:
    """Raise NotFinite with `cause` unless all values are finite."""
    if not np.isfinite(values).all():
        raise NotFinite(cause)


def first_causes(ranks: Iterable[Mapping[int, str]]) -> list[Skipped]:
    """The updates that were skipped, each with the earliest cause that a rank saw.

    ranks  of each rank the causes it saw, by the number of the update
    """
    found: dict[int, str] = {}
    for seen in ranks:
        for number, cause in seen.items():
            found[number] = min(cause, found.get(number, cause), key=CAUSES.index)
    return [Skipped(number, found[number]) for number in sorted(found)]
