"""Conversion between what the rollout room makes and what the reward room judges."""

from collections.abc import Sequence

from reward.pool import RewardPool
from reward.types import Verdict, VerificationRequest
from rollout.types import Prompt, Response


class NothingJudged(ValueError):
    """No response of an evaluation set has a verdict, so there is no accuracy to report."""


def verify(reward: RewardPool, prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]]) -> list[Verdict]:
    """One verdict per response, prompt after prompt."""
    return reward.verify(
        [
            VerificationRequest(prompt.verifier, prompt.text, response.text, prompt.gold, prompt.metadata)
            for prompt, group in zip(prompts, groups, strict=True)
            for response in group
        ]
    )
