"""The one denominator of an update, as a factor for every token. Pure.

    loss = Σ_i scale_i · loss_i

over the tokens of the whole update, all ranks and passes. The factors depend on the update's samples alone, so the sum
is the same however the samples are spread over ranks and passes.
"""

import numpy as np

from learner.types import TokenBatch


def token_scales(batch: TokenBatch, samples: np.ndarray, denominator: str, constant: int | None) -> np.ndarray:
    """float64 [R]: the factor of each response token of the batch in the update of `samples`, 0 outside the update.

    Tokens that the mask leaves out have 0 and are not counted; below, a token is one that it keeps.

    samples      int [n]
    denominator  tokens     1 / tokens of the update (DAPO, Yu et al. 2025, arXiv 2503.14476, eq. 8)
                 sequences  1 / (tokens of the sample · samples with a token) (GRPO, Shao et al. 2024, eq. 3)
                 prompts    1 / (tokens of the prompt's samples · prompts with a token)
                 constant   1 / (n · constant): every sample of the update counts, also one without a token, so that the
                            divisor does not depend on the data (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783)

    Raises ValueError for another denominator, or for `constant` where it is missing or not used.
    """
    if (denominator == "constant") != (constant is not None):
        raise ValueError(
            f"algorithm.denominator_tokens = {constant} under algorithm.denominator = {denominator}: "
            "it is given for the denominator constant, and null for every other"
        )
    index = batch.response_index(samples)
    kept = batch.mask[index]
    index = index[kept]
    scales = np.zeros(batch.mask.size)
    if denominator == "tokens":
        scales[index] = 1.0 / max(1, index.size)
    elif denominator == "constant":
        assert constant is not None
        scales[index] = 1.0 / max(1, samples.size * constant)
    elif denominator in ("sequences", "prompts"):
        names = samples if denominator == "sequences" else batch.groups[samples]
        owners = np.repeat(names, batch.response_lengths[samples])[kept]
        present, which, tokens = np.unique(owners, return_inverse=True, return_counts=True)
        scales[index] = 1.0 / (tokens[which] * max(1, present.size))
    else:
        raise ValueError(
            f"algorithm.denominator = {denominator} is unknown; it is tokens, sequences, prompts or constant"
        )
    return scales
