"""Learning rate as a pure function of the update's index."""

import math


def learning_rate(schedule: str, peak: float, warmup: int, total: int, update: int) -> float:
    """Rate of update `update` (from 0) of `total`: linear warm-up over `warmup` updates, then constant, linear or
    cosine decay to zero at `total`."""
    if update < warmup:
        return peak * (update + 1) / warmup
    if schedule == "constant":
        return peak
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    if schedule == "linear":
        return peak * (1.0 - progress)
    if schedule == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ValueError(f"learner.schedule is constant, linear or cosine, not {schedule!r}")
