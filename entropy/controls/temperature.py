"""The sampling temperature as a control of entropy: E3, Liao et al. 2025 (arXiv 2505.18573)."""

import math
import sys
from collections.abc import Mapping
from typing import Any

from entropy.config import TemperatureConfig
from entropy.control import Decision, Needs, Observed, Plain
from entropy.plan import TokenPlan
from entropy.tokens import UpdateTokens


class SamplingTemperature(Plain):
    """T_{k+1} = T_k · (1 + T_k · ln(H*_k / H_k) / (ln V + ln ln V)), within lowest and highest.

    H_k, the exact mean token entropy of rollout batch k before its updates, is that at T_k: what is held is the entropy
    of what is drawn from. H* is the target, without one the entropy of the first batch that has any, which moves
    nothing. Of N steps, from 0, it falls from step a = N - int(anneal_share · N) on along half a cosine, to anneal_to
    times itself at N. Where H_k is no number, the temperature stays. The bounds are ours; the authors' code has none.
    """

    needs = Needs(entropies=True, synchronous=True)
    scope = "rollout"

    def __init__(self, config: TemperatureConfig, total_steps: int):
        self._config, self._steps = config, total_steps
        self._target = config.target
        self._in_force: float | None = None
        self._next: float | None = None

    def observe(self, batch: Observed) -> None:
        self._next = batch.temperature
        self._in_force = None
        if not math.isfinite(batch.entropy):
            return
        if self._target is None:
            self._target = batch.entropy if batch.entropy > 0 else None
            self._in_force = self._target
            return
        self._in_force = self._target * self._annealed(batch.step)
        # Without any entropy left, ln(H* / H) is endless, and the temperature goes to its bound.
        distance = math.log(self._in_force) - math.log(max(batch.entropy, sys.float_info.min))
        scale = math.log(batch.vocabulary) + math.log(math.log(batch.vocabulary))
        moved = batch.temperature * (1 + batch.temperature * distance / scale)
        self._next = min(max(moved, self._config.lowest), self._config.highest)

    def _annealed(self, step: int) -> float:
        """What is left of the target in a step."""
        last = int(self._config.anneal_share * self._steps)
        begin = self._steps - last
        if step <= begin or not last:
            return 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * (step - begin) / last))
        return self._config.anneal_to + (1 - self._config.anneal_to) * cosine

    def next_temperature(self) -> float | None:
        return self._next

    def plan(self, tokens: UpdateTokens) -> Decision:
        metrics = {} if self._in_force is None else {"temperature/target": (self._in_force, 1.0)}
        return Decision(TokenPlan(), metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"target": self._target, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._target, self._next = (None if state[key] is None else float(state[key]) for key in ("target", "next"))
