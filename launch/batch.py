"""From responses and rewards to the learner's batch, and the figures about both. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from entropy.keyed import sample_key
from learner.advantages import GroupKinds, group_advantages
from learner.config import AlgorithmConfig, ReferenceConfig
from learner.divergence import divergences
from learner.types import TokenBatch
from reward.composition import Reward
from reward.policy import OutcomeCounts
from rollout.types import FinishReason, Prompt, Response


class NothingToTrain(RuntimeError):
    """No response of a step has a score."""


@dataclass(frozen=True)
class Sample:
    """One response with its prompt and reward (None: a verdict failed, left out of training)."""

    prompt: Prompt
    group: int
    response: Response
    reward: Reward | None

    @classmethod
    def of_groups(
        cls, prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]], rewards: Sequence[Reward | None]
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
    kinds       of the groups by the scores of their verifiers, before any term or penalty
    penalty     mean over the kept samples of the divergence from the reference policy that was charged to their
                rewards, in nats, summed over tokens, without its coefficient; None where none is charged
    """

    batch: TokenBatch
    kept: np.ndarray
    advantages: np.ndarray
    kinds: GroupKinds
    penalty: float | None


def build_batch(
    samples: Sequence[Sample], train_on_truncated: bool, oldest: int | None, temperature: float
) -> TokenBatch:
    """One flat batch of every sample that has a score, without advantages.

    The mask leaves out tokens that older weights than those of version `oldest` drew, None for none, and, unless
    `train_on_truncated`, responses that were cut at their longest. `temperature` is what all were drawn at. Raises
    `NothingToTrain`.
    """
    chosen = [samples[i] for i in _kept(samples)]
    if not chosen:
        raise NothingToTrain(
            f"none of the {len(samples)} responses has a score: every verifier failed; see the failure counts, "
            "and lower reward.max_failure_share to stop earlier"
        )
    response_lengths = np.array([len(s.response.token_ids) for s in chosen], np.int32)
    prompt_lengths = np.array([len(s.prompt.token_ids) for s in chosen], np.int32)
    takes_part = [train_on_truncated or not _truncated(s) for s in chosen]
    mask = np.repeat(takes_part, response_lengths)
    versions = _joined([_versions(s.response) for s in chosen], np.int32)
    return TokenBatch(
        tokens=_joined([part for s in chosen for part in (s.prompt.token_ids, s.response.token_ids)], np.int32),
        lengths=prompt_lengths + response_lengths,
        prompt_lengths=prompt_lengths,
        groups=np.array([s.group for s in chosen], np.int32),
        sample_keys=np.array([sample_key(s.prompt.uid, s.response.sample) for s in chosen], np.uint64),
        temperature=temperature,
        behaviour_logprobs=_joined([s.response.logprobs for s in chosen], np.float32),
        mask=mask if oldest is None else mask & (versions >= oldest),
        versions=versions,
        advantages=None,
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


def add_advantages(
    samples: Sequence[Sample], batch: TokenBatch, algorithm: AlgorithmConfig, reference: ReferenceConfig
) -> Trainable:
    """`batch`, which was built of `samples`, with advantages from the rewards of the groups.

    Under reference.place = reward the reward of a response is first lowered by coef times its tokens' divergence from
    the reference policy, estimated from the log-probabilities it was drawn with; one advantage for all its tokens, as
    ever, rather than one from each token on. Raises `RewardsNotBinary`.
    """
    kept = _kept(samples)
    scores = np.array([np.nan if s.reward is None else s.reward.score for s in samples])
    rewards = np.array([np.nan if s.reward is None else s.reward.total for s in samples])
    groups = np.array([s.group for s in samples], np.int32)
    _, kinds = group_advantages(scores, groups, algorithm)
    penalty = None
    if reference.place == "reward":
        if batch.reference_logprobs is None:
            raise ValueError("the batch has not been scored under the reference policy")
        tokens = divergences(batch.behaviour_logprobs, batch.reference_logprobs, reference.estimator)
        owner = np.repeat(np.arange(kept.size), batch.response_lengths)
        charged = np.bincount(owner, tokens, kept.size)
        rewards[kept] -= reference.coef * charged
        penalty = float(charged.mean())
    advantages, _ = group_advantages(rewards, groups, algorithm)
    of_tokens = np.repeat(advantages[kept], batch.response_lengths)
    return Trainable(replace(batch, advantages=of_tokens), kept, advantages, kinds, penalty)


def rewards_of(samples: Sequence[Sample]) -> np.ndarray:
    """float64, the rewards of the samples that have one: those of the batch, in its order."""
    return np.array([sample.reward.total for sample in samples if sample.reward is not None])


def _kept(samples: Sequence[Sample]) -> np.ndarray:
    return np.array([i for i, sample in enumerate(samples) if sample.reward is not None], np.int64)


def _truncated(sample: Sample) -> bool:
    return sample.response.finish_reason is FinishReason.LENGTH


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _versions(response: Response) -> np.ndarray:
    starts = [span.start for span in response.versions] + [len(response.token_ids)]
    return np.repeat([span.version for span in response.versions], np.diff(starts))


def sample_metrics(samples: Sequence[Sample], counts: OutcomeCounts, trainable: Trainable) -> dict[str, float]:
    """Rewards, verdict counts, group kinds, advantages and lengths; right and wrong are as the row's own verifier says.

    Means are over all responses, failures left out of rewards; those of advantages over the responses that have one.
    """
    rewards = [s.reward for s in samples if s.reward is not None]
    lengths = np.array([len(s.response.token_ids) for s in samples])
    truncated = sum(_truncated(s) for s in samples)
    kinds, advantages = trainable.kinds, trainable.advantages[trainable.kept].astype(np.float64)
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
        "response/length_p10": float(np.quantile(lengths, 0.1)),
        "response/length_p50": float(np.quantile(lengths, 0.5)),
        "response/length_p90": float(np.quantile(lengths, 0.9)),
        "response/length_max": int(lengths.max()),
        "response/truncated_share": truncated / len(samples),
        "response/aborted_share": sum(s.response.finish_reason is FinishReason.ABORT for s in samples) / len(samples),
        "tokens/generated": int(lengths.sum()),
        "advantages/mean": float(advantages.mean()),
        "advantages/std": float(advantages.std()),
        "advantages/min": float(advantages.min()),
        "advantages/max": float(advantages.max()),
    }
    row |= {f"reward/failed.{kind}": count for kind, count in counts.failures.items()}
    judged = counts.total - counts.failed
    if judged:
        row["reward/accuracy"] = counts.correct / judged
    if rewards:
        row["reward/mean"] = float(np.mean([reward.total for reward in rewards]))
    if trainable.penalty is not None:
        row["reward/kl_reference_mean"] = trainable.penalty
    for name, is_right in (("correct", True), ("wrong", False)):
        chosen = [len(s.response.token_ids) for s in samples if s.reward and (s.reward.score == 1.0) == is_right]
        if chosen:
            row[f"response/length_{name}_mean"] = float(np.mean(chosen))
    return row


def token_metrics(batch: TokenBatch, logprobs: np.ndarray, entropies: np.ndarray) -> dict[str, float]:
    """Entropy of the rollout policy on its own tokens, and how far engine and learner disagree about them.

    logprobs, entropies  float32 [response tokens] by the learner, under the weights that drew the tokens
    """
    log_ratio = logprobs.astype(np.float64) - batch.behaviour_logprobs
    gap = np.abs(log_ratio)
    probability_gap = np.abs(np.exp(logprobs.astype(np.float64)) - np.exp(batch.behaviour_logprobs.astype(np.float64)))
    return {
        "entropy/token_mean": float(entropies.astype(np.float64).mean()),
        "entropy/sampled_mean": float(-batch.behaviour_logprobs.astype(np.float64).mean()),
        "mismatch/logprob_abs_mean": float(gap.mean()),
        "mismatch/logprob_abs_max": float(gap.max()),
        "mismatch/prob_ratio_mean": float(np.exp(gap).mean()),
        "mismatch/prob_abs_mean": float(probability_gap.mean()),
        "mismatch/prob_abs_max": float(probability_gap.max()),
        "mismatch/kl_k3": float((np.expm1(log_ratio) - log_ratio).mean()),
        "tokens/trained": int(batch.mask.sum()),
    }
