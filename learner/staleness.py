"""How many weight versions tokens are behind the weights they are trained with."""

import numpy as np


class TooStale(RuntimeError):
    """A batch holds tokens of weights that the run may not train on."""


def staleness(versions: np.ndarray, mask: np.ndarray, current: int, limit: int, allow_late: bool) -> dict[str, float]:
    """`staleness/mean` and `staleness/max` over the tokens, in weight versions, and the share beyond the limit.

    versions  int [n], at least one, the weight version that drew each token
    mask      bool [n], the tokens that count in the loss
    current   the learner's version before the update

    Raises TooStale where a token of the mask is more than `limit` versions behind, unless `allow_late`, and where any
    token is ahead.
    """
    behind = current - versions.astype(np.int64)
    late = behind > limit
    if not allow_late and (late & mask).any():
        raise TooStale(
            f"{(late & mask).sum()} of {mask.sum()} tokens are up to {behind[mask].max()} weight versions behind the "
            f"learner's, {current}; off_policy.max_staleness = {limit} allows fewer"
        )
    if behind.min() < 0:
        raise TooStale(f"tokens of weight version {versions.max()} cannot be trained on by the learner's, {current}")
    return {
        "staleness/mean": float(behind.mean()),
        "staleness/max": float(behind.max()),
        "staleness/late_share": float(late.mean()),
    }
