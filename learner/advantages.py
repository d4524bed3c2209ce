"""Advantages of responses from the rewards of their groups, whose members may be missing. Pure."""

from dataclasses import dataclass

import numpy as np

from learner.config import AlgorithmConfig


class RewardsNotBinary(RuntimeError):
    """An estimator that counts right responses got a reward that is neither 0 nor 1."""


@dataclass(frozen=True)
class GroupKinds:
    """How many groups carry a signal, and why the others do not."""

    mixed: int
    all_right: int  # every member at full score
    all_wrong: int  # every member at score 0
    all_equal: int  # every member at the same partial score
    too_small: int  # fewer than two members with a score


@dataclass(frozen=True)
class _Grouped:
    """The M samples with a score, sorted by group and reward, so that no sum depends on the order they came in.

    rewards  float64 [M]
    group    int [M], which of the G groups, from 0
    """

    rewards: np.ndarray
    group: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """int [G], members with a score; at least 1."""
        return np.bincount(self.group)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """float64 [G], sums of `values` [M]."""
        return np.bincount(self.group, values)

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 [G] each: the least and the greatest reward."""
        last = np.cumsum(self.size) - 1
        return self.rewards[last - self.size + 1], self.rewards[last]

    def centred(self) -> np.ndarray:
        """float64 [M], rewards minus the group's mean; exactly 0 in a group without spread."""
        low, high = self.ends()
        deviations = self.rewards - (self.sum(self.rewards) / self.size)[self.group]
        return np.where((low == high)[self.group], 0.0, deviations)

    def deviation(self) -> np.ndarray:
        """float64 [G], sample standard deviations (n - 1); 0 in a group of one."""
        return np.sqrt(self.sum(self.centred() ** 2) / np.maximum(self.size - 1, 1))


def group_advantages(rewards: np.ndarray, groups: np.ndarray, config: AlgorithmConfig) -> tuple[np.ndarray, GroupKinds]:
    """Advantages by `config.estimator`, divided as `config.normalise` says; and the kinds of groups.

    grpo                   r - mean of its group: GRPO (Shao et al. 2024) over the group's deviation, Dr. GRPO (Liu et
                           al. 2025, arXiv 2503.20783) over nothing, Lite PPO (Liu et al. 2025, arXiv 2508.08221) over
                           the batch's
    rloo                   r - mean of the others of its group (Ahmadian et al. 2024, arXiv 2402.14740)
    reinforce_pp           r - mean of the batch (REINFORCE++, Hu et al. 2025, arXiv 2501.03262), over responses: a
                           group without spread carries a signal too
    reinforce_pp_baseline  r - mean of its group, over the batch's deviation of just that (the same paper)
    reinforce              1 where right, -1 where wrong, against no baseline (Zhu et al. 2025, arXiv 2506.01347): every
                           group carries a signal
    pass_at_k              as in `_pass_at_k`

    Standard deviations are sample ones (n - 1), and `std_epsilon` is added to them. Those of a batch are over all
    scores, under reinforce_pp_baseline over all centred scores. Where there is no spread to compare with, and in a
    group with fewer than two members, the advantage is exactly 0 (but not under reinforce, nor reinforce_pp in a small
    group). All arithmetic is in float64.

    rewards  float [N], NaN where the response has no score: it takes no part
    groups   int [N]
    returns  float32 [N], NaN where the reward is NaN

    Raises RewardsNotBinary.
    """
    if rewards.shape != groups.shape or rewards.ndim != 1:
        raise ValueError(f"rewards {rewards.shape} and groups {groups.shape} are one value per sample")
    scored = np.flatnonzero(~np.isnan(rewards))
    order = scored[np.lexsort((rewards[scored], groups[scored]))]
    names, group = np.unique(groups[order], return_inverse=True)
    members = _Grouped(rewards[order].astype(np.float64), group)
    advantages = np.full(rewards.shape, np.nan, np.float32)
    if order.size:
        estimate, deviation = _estimate(members, config)
        if config.normalise == "none":
            advantages[order] = estimate
        else:
            divisor = deviation + config.std_epsilon
            advantages[order] = np.divide(estimate, divisor, out=np.zeros_like(estimate), where=deviation > 0)
    return advantages, _kinds(members, np.unique(groups).size - names.size)


def _estimate(members: _Grouped, config: AlgorithmConfig) -> tuple[np.ndarray, np.ndarray]:
    """float64 [M] each: the estimate before any division, and the deviation that `config.normalise` divides it by."""
    deviation = members.deviation()[members.group]
    if config.estimator == "pass_at_k" and config.pass_k is not None:
        estimate, deviation = _pass_at_k(members, config.pass_k)
    elif config.estimator == "reinforce":
        estimate = 2 * _binary(members, "reinforce") - 1
    elif config.estimator == "reinforce_pp":
        estimate = _centred(members.rewards)
    elif config.estimator == "rloo":  # r - (sum - r) / (n - 1) is n / (n - 1) times r - mean
        estimate = members.centred() * (members.size / np.maximum(members.size - 1, 1))[members.group]
    elif config.estimator in ("grpo", "reinforce_pp_baseline"):
        estimate = members.centred()
    else:
        raise ValueError(f"no advantages by algorithm.estimator = {config.estimator}, pass_k = {config.pass_k}")
    if config.normalise == "batch":
        values = estimate if config.estimator == "reinforce_pp_baseline" else members.rewards
        deviation = np.full(values.shape, np.sqrt((_centred(values) ** 2).sum() / max(1, values.size - 1)))
    return estimate, deviation


def _centred(values: np.ndarray) -> np.ndarray:
    """Minus the mean of all; exactly 0 without spread."""
    return np.zeros_like(values) if values.min() == values.max() else values - values.mean()


def _pass_at_k(members: _Grouped, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Pass@k training by its analytical derivation (Chen et al. 2025, arXiv 2508.10751).

    The reward of k responses is 1 where at least one is right. Over all k-subsets of a group of n with c right, its
    mean is R = 1 - C(n-c, k) / C(n, k) and its deviation sqrt(R (1-R)), which stands for the group's. The estimate of a
    response is the mean of reward - R over the subsets it is in: 1 - R where it is right, and where it is wrong
    1 - R - C(n-c-1, k-1) / C(n-1, k-1). A group with fewer than k scored members gets 0: no k of them are all wrong.
    """
    size, wrong = members.size, members.size - members.sum(_binary(members, "pass_at_k"))
    all_wrong = _chance(wrong, size, k)
    others_wrong = _chance(wrong - 1, size - 1, k - 1)
    estimate = np.where(members.rewards == 1.0, all_wrong[members.group], (all_wrong - others_wrong)[members.group])
    return estimate, np.sqrt(all_wrong * (1.0 - all_wrong))[members.group]


def _binary(members: _Grouped, estimator: str) -> np.ndarray:
    """The rewards, of which each is 0 or 1."""
    odd = members.rewards[~np.isin(members.rewards, (0.0, 1.0))]
    if odd.size:
        raise RewardsNotBinary(
            f"algorithm.estimator = {estimator} counts right responses, but a reward is {odd[0]:g}: train on data "
            "whose verifier scores 0 or 1, or choose another algorithm"
        )
    return members.rewards


def _chance(wrong: np.ndarray, size: np.ndarray, k: int) -> np.ndarray:
    """C(wrong, k) / C(size, k): the chance that k of `size` drawn without replacement are all among the wrong ones."""
    chance = np.ones(wrong.shape)
    for drawn in range(k):
        chance *= np.maximum(wrong - drawn, 0) / np.maximum(size - drawn, 1)
    return chance


def _kinds(members: _Grouped, empty: int) -> GroupKinds:
    """`empty`: groups without any scored member, which are too small."""
    if not members.rewards.size:
        return GroupKinds(0, 0, 0, 0, empty)
    low, high = members.ends()
    small, equal = members.size < 2, low == high
    return GroupKinds(
        mixed=int((~equal).sum()),
        all_right=int((equal & ~small & (low == 1.0)).sum()),
        all_wrong=int((equal & ~small & (low == 0.0)).sum()),
        all_equal=int((equal & ~small & (low != 1.0) & (low != 0.0)).sum()),
        too_small=int(small.sum()) + empty,
    )
