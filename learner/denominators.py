"""The one denominator of an update, as a factor for every token. Pure.

    loss = Σ_i scale_i · loss_i

over the tokens of the whole update, all ranks and passes. The factors depend on the update's samples alone, so the sum
is the same however the samples are spread over ranks and passes.
"""

import numpy as np

from learner.types import TokenBatch


def token_scales(batch: TokenBatch, samples: np.ndarray, denominator: str, constant: int | None) -> np.ndarray:
    """float64 [R]: the factor of each response token of the batch in the update of `samples`, 0 outside the update.

    Tokens that the mask leaves out have 0 and are not counted, nor is a sample or prompt without any other.

    samples      int [n]
    denominator  tokens     1 / tokens of the update (DAPO, Yu et al. 2025, eq. 8)
    """
    index = batch.response_index(samples)
    index = index[batch.mask[index]]
    scales = np.zeros(batch.mask.size)
    if denominator != "tokens":
        raise ValueError(f"algorithm.denominator = {denominator} is unknown")
    scales[index] = 1.0 / max(1, index.size)
    return scales
