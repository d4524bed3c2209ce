"""Controls that keep some tokens and drop the others; and one that shifts advantages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from entropy.config import EntropyAdvantageConfig, HighEntropyConfig, RandPosClipConfig, SignOnlyConfig
from entropy.control import Decision, Needs, Plain
from entropy.plan import TokenPlan
from entropy.selection import Quota, draw, largest
from entropy.tokens import UpdateTokens

RAND_POS_CLIP, HIGH_ENTROPY = 3, 4


def _keeping(name: str, kept: np.ndarray, tokens: UpdateTokens) -> Decision:
    dropped = int(np.count_nonzero(~kept))
    metrics = {
        f"{name}/dropped_share": (float(dropped), float(kept.size)),
        f"{name}/dropped_negative_share": (float(np.count_nonzero(tokens.advantages[~kept] < 0)), float(dropped)),
    }
    # Controls that look at advantages alone are not shown log-probabilities where nothing else needs them.
    if np.isfinite(tokens.logprobs).all():
        metrics[f"{name}/dropped_logprob_mean"] = (float(tokens.logprobs[~kept].sum()), float(dropped))
    if kept.all():
        return Decision(TokenPlan(), metrics)
    return Decision(TokenPlan(weight=torch.from_numpy(kept.astype(np.float32))), metrics)


class SignOnly(Plain):
    """Keeps tokens with A >= 0 (keep=positive), or those with A <= 0. Jin et al. (arXiv 2511.05993), section 7.2."""

    def __init__(self, config: SignOnlyConfig):
        self._keep = config.keep

    def plan(self, tokens: UpdateTokens) -> Decision:
        kept = tokens.advantages >= 0 if self._keep == "positive" else tokens.advantages <= 0
        return _keeping("sign_only", kept, tokens)


class _Chosen(Plain):
    def __init__(self, rate: float, seed: int):
        self._quota, self._seed = Quota(rate), seed

    def state_dict(self) -> dict[str, Any]:
        return {"carry": self._quota.carry}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._quota.carry = float(state["carry"])


class RandPosClip(_Chosen):
    """Drops a random share of all tokens, taken from those with A > 0. Jin et al. (arXiv 2511.05993), table 2.

    With too few of them all go, and what is missing is not made up for later.
    """

    def __init__(self, config: RandPosClipConfig, seed: int):
        super().__init__(config.rate, seed)

    def plan(self, tokens: UpdateTokens) -> Decision:
        kept = np.ones(tokens.size, bool)
        count = self._quota.take(tokens.size)
        kept[draw(tokens.advantages > 0, count, tokens.keys(self._seed, RAND_POS_CLIP))] = False
        return _keeping("rand_pos_clip", kept, tokens)


class HighEntropy(_Chosen):
    """Keeps the tokens with the highest entropy under the rollout policy: the 80/20 rule (arXiv 2506.01939).

    The threshold is that of the whole rollout batch. The others stay in the denominator.
    """

    needs = Needs(entropies=True)
    scope = "rollout"

    def __init__(self, config: HighEntropyConfig, seed: int):
        super().__init__(config.share, seed)

    def plan(self, tokens: UpdateTokens) -> Decision:
        kept = np.zeros(tokens.size, bool)
        everyone, count = np.ones(tokens.size, bool), self._quota.take(tokens.size)
        kept[largest(tokens.entropies, everyone, count, tokens.keys(self._seed, HIGH_ENTROPY))] = True
        return _keeping("high_entropy", kept, tokens)


class EntropyAdvantage(Plain):
    """A + min(coef · H, |A| / bound): Cheng et al. (arXiv 2506.14758). With bound > 1 the sign of A is kept."""

    needs = Needs(entropies=True)

    def __init__(self, config: EntropyAdvantageConfig):
        self._coef, self._bound = config.coef, config.bound

    def shape(self, advantages: np.ndarray, entropies: np.ndarray) -> np.ndarray:
        added = np.minimum(self._coef * entropies, np.abs(advantages) / self._bound)
        return (advantages + added).astype(advantages.dtype)
