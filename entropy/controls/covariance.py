"""Clip-Cov and KL-Cov: Cui et al. 2025 (arXiv 2505.22617), section 4."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from entropy.config import ClipCovConfig, KlCovConfig
from entropy.control import Decision, Needs, Plain
from entropy.covariance import first_order_change, token_covariance
from entropy.plan import TokenPlan
from entropy.selection import Quota, draw, largest
from entropy.tokens import UpdateTokens

CLIP_COV, KL_COV = 1, 2  # part of the key, so that two controls in one run choose independently


class _ByCovariance(Plain):
    """What both have in common: the score, the quota, and what is reported about the chosen tokens."""

    def __init__(self, name: str, config: ClipCovConfig | KlCovConfig, seed: int):
        self._name, self._config, self._seed = name, config, seed
        self._quota = Quota(config.rate)
        self.scope = config.scope
        self.needs = Needs(current_logprobs=config.scope == "update", discriminators=config.score == "first_order")

    def _scores(self, tokens: UpdateTokens) -> np.ndarray:
        return token_covariance(tokens) if self._config.score == "covariance" else first_order_change(tokens)

    def _count(self, tokens: int) -> int:
        # Per micro-batch as the reference implementations do it, which is why their share depends on its size.
        return max(int(self._config.rate * tokens), 1) if self.scope == "microbatch" else self._quota.take(tokens)

    def _metrics(self, tokens: UpdateTokens, scores: np.ndarray, candidates: int, chosen: np.ndarray) -> dict:
        figures = {
            "selected_share": (chosen.size, tokens.size),
            "candidate_share": (candidates, tokens.size),
            "score_mean": (scores.sum(), tokens.size),
            "selected_score_mean": (scores[chosen].sum(), chosen.size),
            "selected_negative_share": (np.count_nonzero(tokens.advantages[chosen] < 0), chosen.size),
            "selected_logprob_mean": (tokens.logprobs[chosen].sum(), chosen.size),
        }
        return {f"{self._name}/{key}": (float(a), float(b)) for key, (a, b) in figures.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"carry": self._quota.carry}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._quota.carry = float(state["carry"])


class ClipCov(_ByCovariance):
    """Drops a random share of the tokens whose score lies in a band: they give no gradient. Eq. 11 and 12.

    Tokens that the surrogate's clip has removed are no candidates. The band is open with absolute bounds, as in the
    authors' code, and closed with quantiles, so that 1 includes the largest score. With choice=random as many tokens
    are dropped, drawn from all that are not clipped: the control that the paper lacks.
    """

    def __init__(self, config: ClipCovConfig, seed: int):
        super().__init__("clip_cov", config, seed)
        self._band = config

    def plan(self, tokens: UpdateTokens) -> Decision:
        scores = self._scores(tokens)
        free = ~tokens.clipped
        candidates = free & self._inside(scores, free)
        found = int(np.count_nonzero(candidates))
        count = min(self._count(tokens.size), found) if tokens.size else 0
        pool = candidates if self._config.choice == "covariance" else free
        chosen = draw(pool, count, tokens.keys(self._seed, CLIP_COV))
        weight = torch.ones(tokens.size)
        weight[torch.from_numpy(chosen)] = 0.0
        return Decision(TokenPlan(weight=weight), self._metrics(tokens, scores, found, chosen))

    def _inside(self, scores: np.ndarray, free: np.ndarray) -> np.ndarray:
        low, high = self._band.low, self._band.high
        if self._band.bounds == "absolute":
            return (scores > low) & (scores < high)
        if not free.any():
            return free
        bottom, top = np.quantile(scores[free], [low, high])
        return (scores >= bottom) & (scores <= top)


class KlCov(_ByCovariance):
    """Penalises the tokens with the largest scores for leaving the policy before the batch's updates. Eq. 13 and 14.

    The penalty and its gradient are zero while the two policies agree, so with one update per rollout it does nothing.
    With choice=random as many tokens are penalised, drawn from all.
    """

    def __init__(self, config: KlCovConfig, seed: int):
        super().__init__("kl_cov", config, seed)
        self.needs |= Needs(several_updates=True)
        self._penalty = config

    def plan(self, tokens: UpdateTokens) -> Decision:
        scores = self._scores(tokens)
        everyone = np.ones(tokens.size, bool)
        count = min(self._count(tokens.size), tokens.size) if tokens.size else 0
        keys = tokens.keys(self._seed, KL_COV)
        by_score = self._config.choice == "covariance"
        chosen = largest(scores, everyone, count, keys) if by_score else draw(everyone, count, keys)
        coef = torch.zeros(tokens.size)
        coef[torch.from_numpy(chosen)] = self._penalty.coef
        plan = TokenPlan(kl_coef=coef, kl_penalty=self._penalty.penalty)
        return Decision(plan, self._metrics(tokens, scores, tokens.size, chosen))
