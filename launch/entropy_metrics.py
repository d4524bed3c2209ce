"""Where the entropy of a step is: over its tokens, by outcome and by place in the response. Pure."""

import math
from collections.abc import Sequence

import numpy as np

from launch.batch import Sample, Trainable

# Wang et al. (arXiv 2506.01939) find the entropy of reasoning in this share of the tokens.
TOP_SHARE = 0.2


def entropy_metrics(samples: Sequence[Sample], trainable: Trainable, entropies: np.ndarray) -> dict[str, float]:
    """In nats, of the policy that drew the tokens, at the sampling temperature.

    entropy/sequence_mean       mean over responses of the mean over their tokens; entropy/token_mean weighs by length
    entropy/p10, p50, p90       quantiles over tokens
    entropy/top_fifth_mean      mean over the fifth of the tokens that has most
    entropy/correct_mean        mean over the tokens of responses with score 1; likewise wrong_mean of the others
    entropy/first_quarter_mean  mean over the tokens in the first quarter of their response; likewise last_quarter_mean

    entropies  float32 [response tokens of the batch]
    """
    values = entropies.astype(np.float64)
    lengths = trainable.batch.response_lengths
    owner = np.repeat(np.arange(lengths.size), lengths)
    # From 0 for the first token of a response to just below 1 for its last.
    place = (np.arange(values.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)) / lengths[owner]
    p10, p50, p90 = np.quantile(values, [0.1, 0.5, 0.9])
    top = np.partition(values, values.size - math.ceil(values.size * TOP_SHARE))
    row = {
        "entropy/sequence_mean": float((np.bincount(owner, values, lengths.size) / np.maximum(lengths, 1)).mean()),
        "entropy/p10": float(p10),
        "entropy/p50": float(p50),
        "entropy/p90": float(p90),
        "entropy/top_fifth_mean": float(top[values.size - math.ceil(values.size * TOP_SHARE) :].mean()),
    }
    correct = np.array([_is_correct(samples[i]) for i in trainable.kept])[owner]
    parts = {"correct": correct, "wrong": ~correct, "first_quarter": place < 0.25, "last_quarter": place >= 0.75}
    return row | {f"entropy/{name}_mean": float(values[part].mean()) for name, part in parts.items() if part.any()}


def _is_correct(sample: Sample) -> bool:
    return sample.reward is not None and sample.reward.score == 1.0
