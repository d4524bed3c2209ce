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
        rate = self._config.rate
        # Per micro-batch as the reference implementations do it, which is why their share depends on its size.
        if self.scope == "microbatch":
            return max(int(rate * tokens), 1) if rate and tokens else 0
        return self._quota.take(tokens)

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

    Candidates are tokens in the band that the surrogate's clip has not removed already. The band is open with absolute
    bounds, as in the authors' code, and closed with quantiles of the scores, so that 1 includes the largest; scores
    without spread have no quantiles to stand out by, and nobody is a candidate. As many are dropped as the quota
    allows and candidates there are; a quota that finds too few candidates is not made up for later.

    With choice=random as many tokens are dropped, drawn from all that are not clipped: the control that the paper
    lacks.
    """

    def __init__(self, config: ClipCovConfig, seed: int):
        super().__init__("clip_cov", config, seed)
        self._clip_cov = config

    def plan(self, tokens: UpdateTokens) -> Decision:
        scores = self._scores(tokens)
        free = ~tokens.clipped
        candidates = free & self._inside(scores, free)
        found = int(np.count_nonzero(candidates))
        count = min(self._count(tokens.size), found)
        pool = candidates if self._config.choice == "covariance" else free
        chosen = draw(pool, count, tokens.keys(self._seed, CLIP_COV))
        metrics = self._metrics(tokens, scores, found, chosen)
        if not chosen.size:
            return Decision(TokenPlan(), metrics)
        weight = torch.ones(tokens.size, dtype=torch.float64)
        weight[torch.from_numpy(chosen)] = 0.0
        return Decision(TokenPlan(weight=weight), metrics)

    def _inside(self, scores: np.ndarray, free: np.ndarray) -> np.ndarray:
        low, high = self._clip_cov.low, self._clip_cov.high
        if self._clip_cov.bounds == "absolute":
            return (scores > low) & (scores < high)
        if not free.any() or np.ptp(scores[free]) == 0:
            return np.zeros_like(free)
        bottom, top = np.quantile(scores[free], [low, high])
        return (scores >= bottom) & (scores <= top)


class KlCov(_ByCovariance):
    """Penalises the tokens with the largest scores for leaving the policy before the batch's updates. Eq. 13 and 14.

    The penalty and its gradient are zero while the two policies agree, so with one update per rollout it does nothing.
    Equal scores are told apart at random. With choice=random as many tokens are penalised, drawn from all.
    """

    def __init__(self, config: KlCovConfig, seed: int):
        super().__init__("kl_cov", config, seed)
        self.needs |= Needs(several_updates=True)
        self._kl_cov = config

    def plan(self, tokens: UpdateTokens) -> Decision:
        scores = self._scores(tokens)
        everyone, count = np.ones(tokens.size, bool), min(self._count(tokens.size), tokens.size)
        keys = tokens.keys(self._seed, KL_COV)
        by_score = self._config.choice == "covariance"
        chosen = largest(scores, everyone, count, keys) if by_score else draw(everyone, count, keys)
        metrics = self._metrics(tokens, scores, tokens.size, chosen)
        if not chosen.size or not self._kl_cov.coef:
            return Decision(TokenPlan(), metrics)
        coef = torch.zeros(tokens.size, dtype=torch.float64)
        coef[torch.from_numpy(chosen)] = self._kl_cov.coef
        return Decision(TokenPlan(kl_coef=coef, kl_penalty=self._kl_cov.penalty), metrics)
