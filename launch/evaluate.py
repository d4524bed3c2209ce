"""avg@k on held-out prompts: inside a run, and as `python -m launch.evaluate`."""

from collections.abc import Mapping

import numpy as np

from launch.config import EvaluationConfig
from launch.verdicts import verify
from reward.pool import RewardPool
from rollout.pool import RolloutPool
from rollout.types import FinishReason, Prompt, Sampling

# Keeps evaluation's random numbers apart from training's, and the same at every step: changes are the policy's alone.
EVALUATION_STEP = -1


def evaluate(
    rollout: RolloutPool,
    reward: RewardPool,
    sets: Mapping[str, list[Prompt]],
    config: EvaluationConfig,
    max_new_tokens: int,
    seed: int,
) -> dict[str, float]:
    """For each set: avg@k, the mean over prompts of the share of its k responses that are right, with k beside it.

    A response whose verifier failed is left out of its prompt's mean; `failed` counts them.
    """
    row: dict[str, float] = {}
    sampling = Sampling(config.temperature, config.top_p, config.top_k, max_new_tokens)
    for name, prompts in sets.items():
        groups = rollout.generate(prompts, config.samples_per_prompt, sampling, seed, EVALUATION_STEP)
        verdicts = verify(reward, prompts, groups)
        responses = [response for group in groups for response in group]
        right = np.array([np.nan if v.score is None else float(v.score == 1.0) for v in verdicts])
        row |= {
            f"eval/{name}/avg_at_k": average_at_k(right.reshape(len(prompts), -1)),
            f"eval/{name}/k": config.samples_per_prompt,
            f"eval/{name}/failed": int(np.isnan(right).sum()),
            f"eval/{name}/length_mean": float(np.mean([len(r.token_ids) for r in responses])),
            f"eval/{name}/truncated_share": float(
                np.mean([r.finish_reason is FinishReason.LENGTH for r in responses])
            ),
        }
    return row


def average_at_k(right: np.ndarray) -> float:
    """Mean over prompts of the mean over their responses [prompts, k]; NaN entries are left out of both.

    Raises ValueError where no response has a verdict.
    """
    judged = ~np.isnan(right)
    if not judged.any():
        raise ValueError("no response of the evaluation set has a verdict, so there is no accuracy to report")
    has_any = judged.any(axis=1)
    means = np.nansum(right[has_any], axis=1) / judged[has_any].sum(axis=1)
    return float(means.mean())
