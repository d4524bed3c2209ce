"""Group-relative advantages over groups that may miss members."""

from dataclasses import dataclass

import numpy as np

from learner.config import AlgorithmConfig


@dataclass(frozen=True)
class GroupKinds:
    """How many groups carry a signal, and why the others do not."""

    mixed: int
    all_right: int  # every member at full score
    all_wrong: int  # every member at score 0
    all_equal: int  # every member at the same partial score
    too_small: int  # fewer than two members with a score


def group_advantages(rewards: np.ndarray, groups: np.ndarray, config: AlgorithmConfig) -> tuple[np.ndarray, GroupKinds]:
    """A_i = (r_i - mean of its group) / (std of its group + epsilon), the division only if asked for.

    Shao et al. 2024 (GRPO), eq. for outcome supervision; without the division Liu et al. 2025 (Dr. GRPO). The estimator
    rloo subtracts the mean of the others instead (Ahmadian et al. 2024), which is n / (n - 1) times the same. The
    standard deviation is the sample one (n - 1). A group without spread, or with fewer than two scored members, gets 0.

    rewards  float [N], NaN where the response has no score (it takes no part in its group)
    groups   int [N]
    returns  float32 [N], NaN where the reward is NaN; and the kinds of groups
    """
    if rewards.shape != groups.shape or rewards.ndim != 1:
        raise ValueError(f"rewards {rewards.shape} and groups {groups.shape} are one value per sample")
    advantages = np.full(rewards.shape, np.nan, np.float32)
    counts = dict.fromkeys(("mixed", "all_right", "all_wrong", "all_equal", "too_small"), 0)
    for group in np.unique(groups):
        members = np.flatnonzero((groups == group) & ~np.isnan(rewards))
        scores = rewards[members].astype(np.float64)
        kind = _kind(scores)
        counts[kind] += 1
        centred = scores - scores.mean() if kind == "mixed" else np.zeros_like(scores)
        if kind == "mixed" and config.estimator == "rloo":
            centred *= scores.size / (scores.size - 1)
        if kind == "mixed" and config.normalise == "group":
            centred /= scores.std(ddof=1) + config.std_epsilon
        advantages[members] = centred
    return advantages, GroupKinds(**counts)


def _kind(scores: np.ndarray) -> str:
    if scores.size < 2:
        return "too_small"
    if (scores != scores[0]).any():
        return "mixed"
    return {1.0: "all_right", 0.0: "all_wrong"}.get(float(scores[0]), "all_equal")
