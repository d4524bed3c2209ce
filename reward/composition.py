"""From verdicts and facts about responses to the rewards that advantages are made of. Pure functions.

    reward = score + sum of weight · score of each further verifier - overlong charge - truncation charge

`score` is that of the row's own verifier, and accuracy counts it alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reward.config import OverlongConfig, RewardConfig
from reward.policy import apply_failure_policy
from reward.types import Verdict


@dataclass(frozen=True)
class ResponseFacts:
    """What a reward may depend on besides verdicts."""

    tokens: int
    is_truncated: bool


@dataclass(frozen=True)
class Reward:
    """What one response is worth.

    score  of the row's own verifier, in [0, 1]
    terms  what is added to it, by name: weights applied, charges negative
    """

    score: float
    terms: Mapping[str, float]

    @property
    def total(self) -> float:
        return self.score + sum(self.terms.values())


def overlong_penalty(tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """Soft overlong punishment of DAPO (Yu et al. 2025, arXiv 2503.14476, eq. 13), in [-1, 0].

    0 up to max_tokens - cache_tokens, then falling in a line to -1 at max_tokens, and -1 beyond.
    """
    over = tokens - (max_tokens - cache_tokens)
    return -min(1.0, max(0, over) / cache_tokens)


def compose_rewards(
    verdicts: Sequence[Verdict],
    further: Mapping[str, Sequence[Verdict]],
    facts: Sequence[ResponseFacts],
    config: RewardConfig,
) -> list[Reward | None]:
    """One reward per response, in order; None where a verdict failed and `config.on_failure` excludes it.

    further  verdicts of `config.terms.verifiers`, by name

    A failure that is charged as wrong scores 0, for a further verifier too. Raises `TooManyFailures`, for each
    verifier by itself.
    """
    own = apply_failure_policy(verdicts, config.on_failure, config.max_failure_share)
    others = {
        name: apply_failure_policy(further[name], config.on_failure, config.max_failure_share)
        for name in config.terms.verifiers
    }
    rewards: list[Reward | None] = []
    for index, (score, fact) in enumerate(zip(own, facts, strict=True)):
        scores = {name: found[index] for name, found in others.items()}
        judged = {name: found for name, found in scores.items() if found is not None}
        if score is None or len(judged) < len(scores):
            rewards.append(None)
            continue
        terms = {name: config.terms.verifiers[name] * found for name, found in judged.items()}
        rewards.append(Reward(score, terms | _charges(fact, config)))
    return rewards


def term_metrics(rewards: Sequence[Reward | None], further: Mapping[str, Sequence[Verdict]]) -> dict[str, float]:
    """Mean of the own verifier's score and of every term over the responses that have a reward, and how many verdicts
    of each further verifier failed."""
    row: dict[str, float] = {
        f"reward/term.{name}_failed": sum(verdict.failure is not None for verdict in verdicts)
        for name, verdicts in further.items()
    }
    found = [reward for reward in rewards if reward is not None]
    if found:
        row["reward/score_mean"] = float(np.mean([reward.score for reward in found]))
        for name in found[0].terms:
            row[f"reward/term.{name}_mean"] = float(np.mean([reward.terms[name] for reward in found]))
    return row


def _charges(fact: ResponseFacts, config: RewardConfig) -> dict[str, float]:
    charges = {}
    overlong: OverlongConfig = config.terms.overlong
    if overlong.cache_tokens is not None:
        penalty = overlong_penalty(fact.tokens, overlong.max_tokens, overlong.cache_tokens)
        charges["overlong"] = overlong.weight * penalty
    if config.terms.truncation_penalty:
        charges["truncation"] = -config.terms.truncation_penalty if fact.is_truncated else 0.0
    return charges
