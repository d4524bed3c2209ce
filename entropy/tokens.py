"""What a control is shown: the response tokens of one optimiser update, over all ranks and passes."""

from dataclasses import dataclass

import numpy as np

from entropy.keyed import token_keys


@dataclass(frozen=True)
class UpdateTokens:
    """n tokens of s samples, sample after sample. Only tokens that take part in the loss.

    sample_keys     uint64 [s], one for each sample, of its own and the same wherever it stands (`keyed.sample_key`)
    lengths         int64 [s], tokens of each sample
    positions       int64 [n], of the token in its response
    logprobs        float64 [n], log-probability of the token under the policy that the control is to judge
    old_logprobs    float64 [n], under the policy at the start of this rollout batch's updates
    entropies       float64 [n], exact, in nats, under the same policy as `logprobs`
    discriminators  float64 [n], S_y - Σ_v p_v S_v with S_v = p_v (log p_v + H); None where nothing asked for it
    advantages      float64 [n], never scaled by a denominator
    clipped         bool [n], whether the surrogate's clip has taken the token's gradient away already
    update          index of the update in the run, from 0

    Raises ValueError where the fields do not have one value for each token, or for each sample.
    """

    sample_keys: np.ndarray
    lengths: np.ndarray
    positions: np.ndarray
    logprobs: np.ndarray
    old_logprobs: np.ndarray
    entropies: np.ndarray
    discriminators: np.ndarray | None
    advantages: np.ndarray
    clipped: np.ndarray
    update: int

    def __post_init__(self) -> None:
        arrays = [self.positions, self.logprobs, self.old_logprobs, self.entropies, self.advantages, self.clipped]
        arrays += [] if self.discriminators is None else [self.discriminators]
        sizes = {array.size for array in arrays} | {int(self.lengths.sum())}
        if len(sizes) > 1 or self.sample_keys.size != self.lengths.size:
            raise ValueError(
                f"fields of {sorted(sizes)} tokens, {self.sample_keys.size} keys and {self.lengths.size} lengths: "
                "each token has one value in every field, each sample one key and one length"
            )

    @property
    def size(self) -> int:
        return self.logprobs.size

    def mean(self, values: np.ndarray) -> float:
        """Mean of `values` [n], the same to the last bit in whatever order the samples stand; NaN of no tokens.

        Tokens are summed within each sample, and the sums in ascending order.
        """
        if not self.size:
            return float("nan")
        filled = self.lengths[self.lengths > 0]
        sums = np.add.reduceat(values.astype(np.float64, copy=False), np.cumsum(filled) - filled)
        return float(np.sort(sums).sum() / self.size)

    def keys(self, *seed: int) -> np.ndarray:
        """uint64 [n]: a random number for each token, of the seed, the update and the token alone."""
        return token_keys((*seed, self.update), self.sample_keys, self.lengths, self.positions)
