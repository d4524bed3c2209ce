"""Tokens of an update, and settings of controls, for the tests of the controls."""

from dataclasses import replace

import numpy as np

from entropy.config import ClipCovConfig, KlCovConfig, PositiveAdvantageConfig
from entropy.control import Observed
from entropy.keyed import sample_key
from entropy.tokens import UpdateTokens

CLIP_COV = ClipCovConfig(
    rate=0.5, low=1.0, high=5.0, bounds="absolute", score="covariance", choice="covariance", scope="update"
)
KL_COV = KlCovConfig(rate=0.5, coef=2.0, penalty="abs", score="covariance", choice="covariance", scope="update")
REWEIGHTING = PositiveAdvantageConfig(
    rule="constant",
    positive="above_zero",
    initial=None,
    lowest=None,
    highest=None,
    step=None,
    target=None,
    band=None,
    proportional=None,
    integral=None,
    epochs=None,
)
GUIDED = replace(REWEIGHTING, rule="guided", initial=0.0, lowest=0.0, highest=1.0, step=0.05, target=0.2, band=0.0)


def seen(entropy: float, step: int, temperature: float = 1.0, vocabulary: int = 1000) -> Observed:
    return Observed(step, entropy, temperature, vocabulary)


def tokens_of(
    logprobs, advantages, lengths=None, clipped=None, entropies=None, discriminators=None, update=0
) -> UpdateTokens:
    """One sample for each of `lengths`; without them, of all tokens."""
    logprobs = np.asarray(logprobs, float)
    lengths = np.array([logprobs.size] if lengths is None else lengths, np.int64)
    return UpdateTokens(
        sample_keys=np.array([sample_key("prompt", number) for number in range(lengths.size)], np.uint64),
        lengths=lengths,
        positions=np.array([position for length in lengths for position in range(length)], np.int64),
        logprobs=logprobs,
        old_logprobs=logprobs,
        entropies=np.zeros(logprobs.size) if entropies is None else np.asarray(entropies, float),
        discriminators=None if discriminators is None else np.asarray(discriminators, float),
        advantages=np.asarray(advantages, float),
        clipped=np.zeros(logprobs.size, bool) if clipped is None else np.asarray(clipped, bool),
        update=update,
    )


def random_tokens(seed: int, samples: int = 6, update: int = 0) -> UpdateTokens:
    """Ragged samples with GRPO-like advantages, one value for each sample."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, samples)
    advantages = np.repeat(rng.choice([-1.5, -0.5, 0.5, 2.0], samples), lengths)
    n = int(lengths.sum())
    return tokens_of(
        -rng.exponential(1.0, n),
        advantages,
        lengths,
        rng.random(n) < 0.1,
        rng.exponential(0.5, n),
        rng.normal(0.0, 0.1, n),
        update,
    )


def dropped(decision) -> list[int]:
    """Indices of the tokens of weight 0."""
    weight = decision.plan.weight
    return [] if isinstance(weight, float) else np.flatnonzero(weight.numpy() == 0).tolist()


def penalised(decision) -> list[int]:
    coef = decision.plan.kl_coef
    return [] if isinstance(coef, float) else np.flatnonzero(coef.numpy()).tolist()
