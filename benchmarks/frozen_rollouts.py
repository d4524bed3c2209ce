"""Rollouts that are fixed beforehand, through TRL's own hooks. Runs in the environment of requirements/parity.txt.

A rollout is a dict with its group, prompt and completion as token ids, and reward.
"""

from collections.abc import Callable
from typing import Any

from datasets import Dataset

Rollout = dict[str, Any]


def prompts(rollouts: list[Rollout]) -> Dataset:
    """One row a group; the text only names the group."""
    groups = sorted({one["group"] for one in rollouts})
    return Dataset.from_dict({"prompt": [str(group) for group in groups]})


def rollout_func(rollouts: list[Rollout]) -> Callable[[list[str], Any], dict[str, Any]]:
    """Stands for generation: the rollouts of the groups that are asked for, as often as each is asked for."""

    def replay(batch: list[str], trainer: Any) -> dict[str, Any]:
        of_group = {name: iter([one for one in rollouts if str(one["group"]) == name]) for name in set(batch)}
        chosen = [next(of_group[name]) for name in batch]
        return {
            "prompt_ids": [one["prompt"] for one in chosen],
            "completion_ids": [one["completion"] for one in chosen],
            "logprobs": None,
            "given_reward": [one["reward"] for one in chosen],
        }

    return replay


def given_reward(given_reward: list[float], **_: Any) -> list[float]:
    """The reward function: what came with the rollouts."""
    return given_reward
