"""How responses are drawn: for training, from the whole distribution, and for evaluation, as its own settings say."""

from dataclasses import fields, replace

from launch.config import EvaluationConfig
from rollout.config import RolloutConfig
from rollout.types import Sampling


def of_set(evaluation: EvaluationConfig, name: str) -> EvaluationConfig:
    """What holds for the evaluation set `name`: what it has of its own, and else what all have."""
    if name not in evaluation.sets:
        return evaluation
    own = {field.name: getattr(evaluation.sets[name], field.name) for field in fields(evaluation.sets[name])}
    return replace(evaluation, **{setting: value for setting, value in own.items() if value is not None})


def sampling(config: RolloutConfig | EvaluationConfig) -> Sampling:
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_new_tokens=config.max_new_tokens,
        min_p=config.min_p,
        stop=tuple(config.stop),
        stop_token_ids=tuple(config.stop_token_ids),
    )
