"""Positive-advantage reweighting: Jin et al. (arXiv 2511.05993), section 7.3."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from entropy.config import PositiveAdvantageConfig
from entropy.control import Decision, Needs, Observed, Plain
from entropy.plan import TokenPlan
from entropy.tokens import UpdateTokens

# The settings that each rule needs; they are null under the others.
NEEDS = {
    "constant": ("initial",),
    "stage": (),
    "epoch": ("epochs",),
    "guided": ("initial", "lowest", "highest", "step", "target", "band"),
    "pi": ("initial", "lowest", "highest", "target", "proportional", "integral"),
}
FEEDBACK = ("guided", "pi")


class PositiveAdvantage(Plain):
    """Multiplies the surrogate of tokens with a positive advantage by lambda; the denominator stays.

    constant  lambda = initial
    stage     0 in the first half of the steps, then linear to 1 at the last (prog_adv_stage)
    epoch     (e - 1) / (E - 1) in part e of the E = epochs equal parts of the run, 1 where E is 1 (prog_adv_epoch)
    guided    lambda_{k+1} = lambda_k - step where H_k < target, else + step; within band of the target it stays
              (eq. 5 with band 0; prog_adv_guided)
    pi        initial + proportional · e_k + integral · sum of e, e_k = (H_k - target) / target; nothing is added to the
              sum while lambda stands at a bound that the error pushes against

    The last two stay within lowest and highest. lambda_k acts in step k, and H_k, measured before its updates, on
    lambda_{k+1}; where H_k is no number, lambda stays.
    """

    def __init__(self, config: PositiveAdvantageConfig, total_steps: int):
        """`total_steps` of the whole run. Raises ValueError where a setting that the rule needs is null."""
        for name in NEEDS[config.rule]:
            _given(getattr(config, name))
        self._config, self._steps = config, total_steps
        self.needs = Needs(entropies=config.rule in FEEDBACK)
        self.weight = 0.0 if config.initial is None else config.initial
        self._next = self.weight
        self._sum = 0.0

    def observe(self, batch: Observed) -> None:
        rule, step, entropy = self._config.rule, batch.step, batch.entropy
        if rule == "stage":
            self.weight = self._stage(step)
        elif rule == "epoch":
            self.weight = self._epoch(step)
        elif rule in FEEDBACK:
            self.weight = self._next
            if np.isfinite(entropy):
                self._next = self._guided(entropy) if rule == "guided" else self._pi(entropy)

    def _stage(self, step: int) -> float:
        half, last = self._steps / 2, self._steps - 1
        if step >= last:
            return 1.0
        return 0.0 if step <= half else (step - half) / (last - half)

    def _epoch(self, step: int) -> float:
        epochs = int(_given(self._config.epochs))
        if epochs == 1:
            return 1.0
        return min(epochs - 1, step * epochs // self._steps) / (epochs - 1)

    def _guided(self, entropy: float) -> float:
        config = self._config
        target, band, step = _given(config.target), _given(config.band), _given(config.step)
        if band and abs(entropy - target) <= band:
            return self.weight
        return self._bounded(self.weight - step if entropy < target else self.weight + step)

    def _pi(self, entropy: float) -> float:
        config, target = self._config, _given(self._config.target)
        proportional, integral = _given(config.proportional), _given(config.integral)
        error = (entropy - target) / target
        wanted = _given(config.initial) + proportional * error + integral * (self._sum + error)
        bounded = self._bounded(wanted)
        if wanted == bounded or (wanted > bounded) != (error > 0):
            self._sum += error
        return bounded

    def _bounded(self, weight: float) -> float:
        return min(max(weight, _given(self._config.lowest)), _given(self._config.highest))

    def plan(self, tokens: UpdateTokens) -> Decision:
        positive = tokens.advantages > 0 if self._config.positive == "above_zero" else tokens.advantages >= 0
        metrics = {
            "positive_advantage/weight": (self.weight, 1.0),
            "positive_advantage/share": (float(np.count_nonzero(positive)), float(tokens.size)),
        }
        if self.weight == 1:
            return Decision(TokenPlan(), metrics)
        weight = torch.ones(tokens.size, dtype=torch.float64)
        weight[torch.from_numpy(positive)] = self.weight
        return Decision(TokenPlan(weight=weight), metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "next": self._next, "sum": self._sum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight, self._next, self._sum = (float(state[name]) for name in ("weight", "next", "sum"))


def _given(value: float | None) -> float:
    if value is None:
        raise ValueError("a setting that the rule of entropy.positive_advantage needs is null")
    return value
