"""Entropy in the loss: a constant coefficient, or one that keeps entropy from falling below a target."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from entropy.config import AdaptiveBonusConfig, EntropyBonusConfig
from entropy.control import Decision, Needs, Observed, Plain
from entropy.plan import TokenPlan
from entropy.tokens import UpdateTokens


class EntropyBonus(Plain):
    """Subtracts coef · H from the loss of every token; a negative coefficient spends entropy."""

    def __init__(self, config: EntropyBonusConfig):
        self._coef = config.coef

    def plan(self, tokens: UpdateTokens) -> Decision:
        return Decision(TokenPlan(entropy_coef=self._coef))


class AdaptiveBonus(Plain):
    """alpha_k = c_k where H_k <= target, else 0; c_{k+1} = c_k + step where H_k <= target, else c_k - step.

    c stays within lowest and highest; where H_k is no number, nothing moves. H_k is the exact mean token entropy of
    rollout batch k before its updates. Skywork-OR1 (arXiv 2505.22312, section 3.2.5), and the comparator of Jin et al.
    (arXiv 2511.05993, eq. 1 and 2), where H_k < target takes the place of <=.
    """

    needs = Needs(entropies=True)

    def __init__(self, config: AdaptiveBonusConfig):
        self._config = config
        self._coef, self._next = 0.0, config.initial

    def observe(self, batch: Observed) -> None:
        if not np.isfinite(batch.entropy):
            return
        config, current, below = self._config, self._next, batch.entropy <= self._config.target
        self._coef = current if below else 0.0
        moved = current + config.step if below else current - config.step
        self._next = min(max(moved, config.lowest), config.highest)

    def plan(self, tokens: UpdateTokens) -> Decision:
        return Decision(TokenPlan(entropy_coef=self._coef), {"adaptive_bonus/coef": (self._coef, 1.0)})

    def state_dict(self) -> dict[str, Any]:
        return {"coef": self._coef, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._coef, self._next = float(state["coef"]), float(state["next"])
