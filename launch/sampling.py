"""How responses are drawn: for training, from the whole distribution, and for evaluation, as its own settings say."""

from launch.config import EvaluationConfig
from rollout.config import RolloutConfig
from rollout.types import Sampling


def training_sampling(rollout: RolloutConfig) -> Sampling:
    return _sampling(rollout, rollout.max_new_tokens)


def evaluation_sampling(evaluation: EvaluationConfig, max_new_tokens: int) -> Sampling:
    return _sampling(evaluation, max_new_tokens)


def _sampling(config: RolloutConfig | EvaluationConfig, max_new_tokens: int) -> Sampling:
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_new_tokens=max_new_tokens,
        min_p=config.min_p,
        stop=tuple(config.stop),
        stop_token_ids=tuple(config.stop_token_ids),
    )
