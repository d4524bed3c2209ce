"""The tokens that one forward pass trains on."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from learner.types import Pass, TokenBatch


@dataclass(frozen=True)
class PassTokens:
    """The response tokens of one forward pass that take part in the loss, sample after sample, n of them in s samples.

    index               int64 numpy [n] into the batch's arrays over response tokens
    whole_index         the same with the tokens that the mask leaves out
    sequence            int64 [n], which of the s samples the token belongs to, ascending
    sequences           s; a sample none of whose tokens take part is not counted
    logprobs, entropies float [n] with gradients
    the others          float [n] without
    """

    index: np.ndarray
    whole_index: np.ndarray
    sequence: torch.Tensor
    sequences: int
    logprobs: torch.Tensor
    entropies: torch.Tensor
    old_logprobs: torch.Tensor
    behaviour_logprobs: torch.Tensor
    advantages: torch.Tensor
    reference_logprobs: torch.Tensor | None

    @classmethod
    def of(cls, batch: TokenBatch, rows: Pass, logprobs: torch.Tensor, entropies: torch.Tensor) -> Self:
        """The tokens of `rows`; `logprobs` and `entropies` [response tokens of the rows] in the rows' order.

        Without old log-probabilities in the batch, those of now stand for them. Raises ValueError without advantages.
        """
        if batch.advantages is None:
            raise ValueError("the batch has no advantages yet")
        samples = np.concatenate([np.zeros(0, np.int64), *rows])
        whole = batch.response_index(samples)
        kept = batch.mask[whole]
        owner = np.repeat(np.arange(samples.size), batch.response_lengths[samples])[kept]
        names, sequence = np.unique(owner, return_inverse=True)
        chosen = torch.from_numpy(np.flatnonzero(kept)).to(logprobs.device)
        logprobs, entropies = logprobs[chosen], entropies[chosen]
        index = whole[kept]

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values[index]).to(logprobs)

        return cls(
            index=index,
            whole_index=whole,
            sequence=torch.from_numpy(sequence).to(logprobs.device),
            sequences=names.size,
            logprobs=logprobs,
            entropies=entropies,
            old_logprobs=logprobs.detach() if batch.old_logprobs is None else tensor(batch.old_logprobs),
            behaviour_logprobs=tensor(batch.behaviour_logprobs),
            advantages=tensor(batch.advantages),
            reference_logprobs=None if batch.reference_logprobs is None else tensor(batch.reference_logprobs),
        )

    def sequence_sums(self, values: torch.Tensor) -> torch.Tensor:
        """[s]: the sum of `values` [n] over each sample's tokens, in float64, with gradients.

        Whole sums, because a sample is never split over passes.
        """
        sums = torch.zeros(self.sequences, dtype=torch.float64, device=values.device)
        return sums.index_add(0, self.sequence, values.double())

    def sequence_means(self, values: torch.Tensor) -> torch.Tensor:
        """[s]: the mean of `values` [n] over each sample's tokens, in float64, with gradients."""
        return self.sequence_sums(values) / self.sequence_sums(torch.ones_like(values))
