"""From responses and rewards to the learner's batch, and the figures about both. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learner.advantages import GroupKinds, group_advantages
from learner.config import AlgorithmConfig
from learner.types import TokenBatch
from reward.policy import OutcomeCounts
from rollout.types import FinishReason, Prompt, Response


class NothingToTrain(RuntimeError):
    """No response of a step has a score."""


@dataclass(frozen=True)
class Sample:
    """One response with its prompt and reward (None: no score, left out of training)."""

    prompt: Prompt
    group: int
    response: Response
    reward: float | None

    @classmethod
    def of_groups(
        cls, prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]], rewards: Sequence[float | None]
    ) -> list["Sample"]:
        """One sample per response, group after group; `rewards` in the same order."""
        numbered = enumerate(zip(prompts, groups, strict=True))
        flat = [(prompt, number, response) for number, (prompt, group) in numbered for response in group]
        return [cls(*item, reward) for item, reward in zip(flat, rewards, strict=True)]


@dataclass(frozen=True)
class Trainable:
    """The learner's batch and where its samples came from.

    kept        indices into the samples, in the batch's order
    advantages  float32 per sample of the input, NaN where it was left out
    """

    batch: TokenBatch
    kept: np.ndarray
    advantages: np.ndarray
    kinds: GroupKinds


def build_batch(samples: Sequence[Sample], config: AlgorithmConfig) -> Trainable:
    """Advantages within groups, then one flat batch of every sample that has one. Raises `NothingToTrain`."""
    rewards = np.array([np.nan if s.reward is None else s.reward for s in samples])
    groups = np.array([s.group for s in samples], np.int32)
    advantages, kinds = group_advantages(rewards, groups, config)
    kept = np.flatnonzero(~np.isnan(advantages))
    if not kept.size:
        raise NothingToTrain(
            f"none of the {len(samples)} responses has a score: every verifier failed; see the failure counts, "
            "and lower reward.max_failure_share to stop earlier"
        )
    chosen = [samples[i] for i in kept]
    response_lengths = np.array([len(s.response.token_ids) for s in chosen], np.int32)
    prompt_lengths = np.array([len(s.prompt.token_ids) for s in chosen], np.int32)
    batch = TokenBatch(
        tokens=_joined([part for s in chosen for part in (s.prompt.token_ids, s.response.token_ids)], np.int32),
        lengths=prompt_lengths + response_lengths,
        prompt_lengths=prompt_lengths,
        groups=groups[kept],
        behaviour_logprobs=_joined([s.response.logprobs for s in chosen], np.float32),
        mask=np.ones(response_lengths.sum(), bool),
        versions=_joined([_versions(s.response) for s in chosen], np.int32),
        advantages=np.repeat(advantages[kept], response_lengths),
        old_logprobs=None,
        reference_logprobs=None,
    )
    return Trainable(batch, kept, advantages, kinds)


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _versions(response: Response) -> np.ndarray:
    starts = [span.start for span in response.versions] + [len(response.token_ids)]
    return np.repeat([span.version for span in response.versions], np.diff(starts))


def sample_metrics(samples: Sequence[Sample], counts: OutcomeCounts, kinds: GroupKinds) -> dict[str, float]:
    """Rewards, verdict counts, group kinds and lengths. Means are over all responses, failures left out of rewards."""
    scored = [s.reward for s in samples if s.reward is not None]
    lengths = np.array([len(s.response.token_ids) for s in samples])
    truncated = sum(s.response.finish_reason is FinishReason.LENGTH for s in samples)
    groups = kinds.mixed + kinds.all_right + kinds.all_wrong + kinds.all_equal + kinds.too_small
    row = {
        "reward/correct": counts.correct,
        "reward/wrong": counts.wrong,
        "reward/unparsable": counts.unparsable,
        "reward/failed": counts.failed,
        "groups/all_correct": kinds.all_right / groups,
        "groups/all_wrong": kinds.all_wrong / groups,
        "groups/all_equal": kinds.all_equal / groups,
        "groups/too_small": kinds.too_small / groups,
        "groups/mixed": kinds.mixed / groups,
        "response/length_mean": float(lengths.mean()),
        "response/length_max": int(lengths.max()),
        "response/truncated_share": truncated / len(samples),
        "tokens/generated": int(lengths.sum()),
    }
    row |= {f"reward/failed.{kind}": count for kind, count in counts.failures.items()}
    judged = counts.total - counts.failed
    if judged:
        row["reward/accuracy"] = counts.correct / judged
    if scored:
        row["reward/mean"] = float(np.mean(scored))
    return row


def token_metrics(batch: TokenBatch, logprobs: np.ndarray, entropies: np.ndarray) -> dict[str, float]:
    """Entropy of the rollout policy on its own tokens, and how far engine and learner disagree about them.

    logprobs, entropies  float32 [response tokens] by the learner, under the weights that drew the tokens
    """
    gap = np.abs(logprobs.astype(np.float64) - batch.behaviour_logprobs)
    return {
        "entropy/token_mean": float(entropies.astype(np.float64).mean()),
        "entropy/sampled_mean": float(-batch.behaviour_logprobs.astype(np.float64).mean()),
        "mismatch/logprob_abs_mean": float(gap.mean()),
        "mismatch/logprob_abs_max": float(gap.max()),
        "mismatch/prob_ratio_mean": float(np.exp(gap).mean()),
        "tokens/trained": int(logprobs.size),
    }
