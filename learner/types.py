"""What the learner group receives and returns. Arrays only: nothing here is padded."""

from dataclasses import dataclass

import numpy as np

# The arrays over response tokens.
PER_TOKEN = (
    "behaviour_logprobs",
    "mask",
    "versions",
    "advantages",
    "old_logprobs",
    "old_entropies",
    "reference_logprobs",
)


@dataclass(frozen=True)
class TokenBatch:
    """All samples of a rollout batch, flat.

    A sample is a prompt and its response; N samples hold T tokens of which R are response tokens.

    tokens              int32 [T], sample after sample, prompt then response
    lengths             int32 [N], tokens of each sample, at least its prompt's
    prompt_lengths      int32 [N], at least 1
    groups              int32 [N], index of the sample's prompt within the batch
    sample_keys         uint64 [N], names the sample wherever it stands (`entropy.keyed.sample_key`)
    temperature         that the responses were drawn at; log-probabilities and entropies are those of the distribution
                        at this temperature
    behaviour_logprobs  float32 [R], log-probability of each response token when it was drawn
    mask                bool [R], whether the token takes part in the loss
    versions            int32 [R], weight version that drew the token
    advantages          float32 [R], never scaled by any denominator; None until they are computed
    old_logprobs        float32 [R] under the weights at the start of this batch's updates; None until the
                        learner has scored the batch
    old_entropies       float32 [R], exact, under the same weights and with the same fate
    reference_logprobs  float32 [R] under the reference policy; None where there is none
    """

    tokens: np.ndarray
    lengths: np.ndarray
    prompt_lengths: np.ndarray
    groups: np.ndarray
    sample_keys: np.ndarray
    temperature: float
    behaviour_logprobs: np.ndarray
    mask: np.ndarray
    versions: np.ndarray
    advantages: np.ndarray | None
    old_logprobs: np.ndarray | None
    old_entropies: np.ndarray | None
    reference_logprobs: np.ndarray | None

    def __post_init__(self):
        shapes = [each.shape for each in (self.lengths, self.prompt_lengths, self.groups, self.sample_keys)]
        if len(set(shapes)) > 1:
            raise ValueError(f"lengths, prompt_lengths, groups and sample_keys are one value per sample, not {shapes}")
        if not self.temperature > 0:
            raise ValueError(f"the temperature is {self.temperature}; nothing can be drawn or scored at it")
        if self.tokens.size != self.lengths.sum():
            raise ValueError(f"{self.tokens.size} tokens, but the lengths add up to {self.lengths.sum()}")
        if (self.prompt_lengths < 1).any():
            raise ValueError("a sample needs at least one prompt token to predict its first response token from")
        if (self.response_lengths < 0).any():
            raise ValueError("a sample is shorter than its prompt")
        responses = int(self.response_lengths.sum())
        for name in PER_TOKEN:
            values = getattr(self, name)
            if values is not None and values.shape != (responses,):
                raise ValueError(f"{name} has shape {values.shape}, but there are {responses} response tokens")

    @property
    def response_lengths(self) -> np.ndarray:
        """int32 [N]"""
        return self.lengths - self.prompt_lengths

    @property
    def offsets(self) -> np.ndarray:
        """int64 [N + 1], where each sample starts in `tokens`."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    @property
    def response_offsets(self) -> np.ndarray:
        """int64 [N + 1], where each sample starts in the arrays over response tokens."""
        return np.concatenate([[0], np.cumsum(self.response_lengths, dtype=np.int64)])

    def response_index(self, samples: np.ndarray) -> np.ndarray:
        """int64 indices into the arrays over response tokens of `samples`, sample after sample."""
        starts, lengths = self.response_offsets[samples], self.response_lengths[samples]
        return ragged_index(starts, lengths)


def ragged_index(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenation of `arange(start, start + length)` over the pairs."""
    if lengths.size == 0:
        return np.zeros(0, np.int64)
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)


# Rows of one forward pass; each holds the samples that are packed into it, as indices into the batch.
Pass = tuple[np.ndarray, ...]
# The passes of one rank.
Passes = tuple[Pass, ...]


@dataclass(frozen=True)
class UpdatePlan:
    """One optimiser update.

    passes         of each rank; equally many on every rank
    samples        int64 [n] of the whole update, over all ranks
    learning_rate  of this update
    number         of the update in the run, from 0
    """

    passes: tuple[Passes, ...]
    samples: np.ndarray
    learning_rate: float
    number: int


@dataclass(frozen=True)
class Scores:
    """What a rank found for some response tokens.

    index      int64 [n] into the arrays over response tokens
    logprobs   float32 [n]
    entropies  float32 [n], exact, in nats
    discriminators  float32 [n], see `entropy.covariance.discriminators`; None where they were not asked for
    """

    index: np.ndarray
    logprobs: np.ndarray
    entropies: np.ndarray
    discriminators: np.ndarray | None = None


def joined(parts: list[Scores]) -> Scores:
    """One after another; the discriminators where every part has them."""

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    complete = all(part.discriminators is not None for part in parts)
    return Scores(
        column("index"), column("logprobs"), column("entropies"), column("discriminators") if complete else None
    )
