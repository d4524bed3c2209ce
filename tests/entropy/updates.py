"""Made-up updates to show to the code under test."""

from collections.abc import Sequence

import numpy as np

from entropy.keyed import sample_key
from entropy.tokens import UpdateTokens

PER_TOKEN = ("positions", "logprobs", "old_logprobs", "entropies", "advantages", "clipped")


def update_of(
    lengths: Sequence[int], logprobs: np.ndarray, advantages: np.ndarray, update: int = 0, uid: str = "prompt"
) -> UpdateTokens:
    """An update whose samples have these lengths; logprobs and advantages float [tokens]."""
    counts = np.array(lengths, np.int64)
    tokens = int(counts.sum())
    return UpdateTokens(
        sample_keys=np.array([sample_key(uid, i) for i in range(counts.size)], np.uint64),
        lengths=counts,
        positions=np.concatenate([np.arange(count) for count in counts] or [np.zeros(0, np.int64)]),
        logprobs=np.array(logprobs, np.float64),
        old_logprobs=np.array(logprobs, np.float64),
        entropies=np.linspace(0.1, 2.0, tokens),
        discriminators=None,
        advantages=np.array(advantages, np.float64),
        clipped=np.zeros(tokens, bool),
        update=update,
    )


def random_update(samples: int = 24, longest: int = 40, seed: int = 0, steps: float = 0.0) -> UpdateTokens:
    """Samples of 0 to `longest` tokens; steps > 0 rounds log-probs and advantages to multiples of it, for ties."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, samples)
    logprobs = -rng.exponential(1.0, lengths.sum())
    advantages = np.repeat(rng.normal(size=samples), lengths)
    if steps:
        logprobs, advantages = np.round(logprobs / steps) * steps, np.round(advantages / steps) * steps
    return update_of(lengths, logprobs, advantages, update=seed)


def joined(tokens: UpdateTokens, pieces: Sequence[Sequence[int]]) -> UpdateTokens:
    """The samples of `pieces`, piece after piece, as the shares of micro-batches and ranks are put together."""
    order = np.array([sample for piece in pieces for sample in piece], np.int64)
    starts = np.cumsum(tokens.lengths) - tokens.lengths
    index = np.concatenate([np.arange(starts[i], starts[i] + tokens.lengths[i]) for i in order])
    fields = {name: getattr(tokens, name)[index] for name in PER_TOKEN}
    return UpdateTokens(
        sample_keys=tokens.sample_keys[order],
        lengths=tokens.lengths[order],
        discriminators=None,
        update=tokens.update,
        **fields,
    )


def named(tokens: UpdateTokens, chosen: np.ndarray) -> set[tuple[int, int]]:
    """Tokens by (key of the sample, position), which does not depend on where they stand."""
    keys = np.repeat(tokens.sample_keys, tokens.lengths)
    return {(int(keys[i]), int(tokens.positions[i])) for i in chosen}
