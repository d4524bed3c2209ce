"""Conversion between what the rollout room makes and what the reward room judges."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward.composition import ResponseFacts
from reward.pool import RewardPool
from reward.types import Verdict, VerificationRequest
from rollout.types import FinishReason, Prompt, Response


@dataclass(frozen=True)
class GroupVerdicts:
    """Of one group, in the order of its responses: by the row's own verifier, and by each further one."""

    own: list[Verdict]
    further: dict[str, list[Verdict]]


class NothingJudged(ValueError):
    """No response of an evaluation set has a verdict, so there is no accuracy to report."""


def verify(reward: RewardPool, prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]]) -> list[Verdict]:
    """One verdict per response by the verifier of its row, prompt after prompt."""
    return verify_terms(reward, prompts, groups, ())[0]


def verify_terms(
    reward: RewardPool, prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]], further: Collection[str]
) -> tuple[list[Verdict], dict[str, list[Verdict]]]:
    """Verdicts by the verifier of each row, prompt after prompt, and those of every `further` verifier by its name.

    They are asked for together, so that no verifier waits for another.
    """
    pairs = [(prompt, response) for prompt, group in zip(prompts, groups, strict=True) for response in group]
    requests = [_request(prompt.verifier, prompt, response, bool(further)) for prompt, response in pairs]
    for name in further:
        requests += [_request(name, prompt, response, True) for prompt, response in pairs]
    verdicts = reward.verify(requests)
    parts = [verdicts[start : start + len(pairs)] for start in range(0, len(verdicts), max(1, len(pairs)))]
    return (parts[0], dict(zip(further, parts[1:], strict=True))) if parts else ([], {name: [] for name in further})


def facts(groups: Sequence[Sequence[Response]]) -> list[ResponseFacts]:
    """What a reward may depend on besides verdicts, in the order of `verify`."""
    return [
        ResponseFacts(len(response.token_ids), response.finish_reason is FinishReason.LENGTH)
        for group in groups
        for response in group
    ]


def _request(verifier: str, prompt: Prompt, response: Response, several: bool) -> VerificationRequest:
    gold: Any = prompt.gold
    if several and isinstance(gold, Mapping) and verifier in gold:
        gold = gold[verifier]
    return VerificationRequest(verifier, prompt.text, response.text, gold, prompt.metadata)
