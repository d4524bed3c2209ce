"""Which prompts are worth drawing now: by how often the policy has solved them so far. Pure."""

from collections.abc import Callable, Sequence

from rollout.config import CurriculumConfig


class Curriculum:
    """Passes over prompts whose mean pass rate is out of bounds (`data.curriculum`); those never drawn it allows.

    rate  of a prompt: its mean pass rate when the last batch was taken, None where it had not been drawn
    """

    def __init__(self, config: CurriculumConfig, rate: Callable[[str], float | None]):
        self._config, self._rate = config, rate
        self._lowest = -float("inf") if config.lowest is None else config.lowest
        self._highest = float("inf") if config.highest is None else config.highest

    @property
    def cycle(self) -> int:
        """After so many whole epochs without a prompt for a step there is none to come."""
        return self._config.revisit_epochs or 1

    def allows(self, uid: str, epoch: int) -> bool:
        """Whether the prompt is to be drawn in that epoch, the first one being 0."""
        revisit = self._config.revisit_epochs
        return (revisit is not None and epoch % revisit == 0) or self._within(self._rate(uid))

    def outside_share(self, rates: Sequence[float]) -> float:
        """Share of `rates` that are out of bounds."""
        return sum(not self._within(rate) for rate in rates) / len(rates)

    def refusal(self, allowed: int, wanted: int) -> str:
        """Why there is no step."""
        low, high = self._config.lowest, self._config.highest
        bounds = " or ".join(
            f"{side} = {bound:g}"
            for side, bound in (("below lowest", low), ("above highest", high))
            if bound is not None
        )
        return (
            f"data.curriculum allows {allowed} more prompts, and a step takes {wanted}: all others have a mean pass "
            f"rate {bounds}; widen the bounds, or let data.curriculum.revisit_epochs draw all prompts again"
        )

    def _within(self, rate: float | None) -> bool:
        return rate is None or self._lowest <= rate <= self._highest
