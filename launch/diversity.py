"""How different the responses to one prompt are. Pure."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

LONGEST = 5


def ngram_diversity(responses: Sequence[Sequence[int]]) -> float | None:
    """Product over n = 1 to 5 of the unique n-grams' share of all n-grams of the responses to one prompt.

    Jin et al. (arXiv 2511.05993, eq. 8), over token ids and pooled over the responses. None where no response has five
    tokens.
    """
    product = 1.0
    for n in range(1, LONGEST + 1):
        grams = [gram for tokens in responses for gram in zip(*(tokens[i:] for i in range(n)), strict=False)]
        if not grams:
            return None
        product *= len(set(grams)) / len(grams)
    return product


def answer_entropy(answers: Sequence[Hashable]) -> float:
    """Entropy in nats of the distribution of the answers to one prompt; every way to have none is one answer."""
    counts = np.array(list(Counter(answers).values()), float)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())
