"""How many weight versions tokens are behind the weights they are trained with."""

import numpy as np


class TooStale(RuntimeError):
    """A batch holds tokens of weights that the run may not train on."""


def staleness(versions: np.ndarray, current: int, limit: int) -> dict[str, float]:
    """`staleness/mean` and `staleness/max` over the tokens, in weight versions.

    versions  int [n], at least one, the weight version that drew each token
    current   the learner's version before the update

    Raises TooStale where a token is more than `limit` versions behind, or ahead.
    """
    behind = current - versions.astype(np.int64)
    if behind.max() > limit:
        late = int((behind > limit).sum())
        raise TooStale(
            f"{late} of {behind.size} tokens are up to {behind.max()} weight versions behind the learner's, {current}; "
            f"off_policy.max_staleness = {limit} allows fewer"
        )
    if behind.min() < 0:
        raise TooStale(f"tokens of weight version {versions.max()} cannot be trained on by the learner's, {current}")
    return {"staleness/mean": float(behind.mean()), "staleness/max": float(behind.max())}
