"""What sampling must satisfy: nothing cut from the distribution that is trained on, and stops that can occur."""

import json
from collections.abc import Iterator
from pathlib import Path

from launch.config import EvaluationConfig, ModelConfig, RunConfig
from launch.model_folder import CONFIG, model_folder
from rollout.config import RolloutConfig


def sampling_problems(config: RunConfig) -> Iterator[str]:
    """Sentences about `rollout` and `evaluation`; those about numbers out of bounds are in `limits`."""
    rollout = config.rollout
    reason = "the probability ratio compares whole distributions, so training on samples of a cut one is biased"
    if 0 < rollout.top_p < 1:
        yield f"rollout.top_p = {rollout.top_p} has to be 1.0: {reason}."
    if rollout.top_k > 0:
        yield f"rollout.top_k = {rollout.top_k} has to be 0: {reason}."
    if 0 < rollout.min_p <= 1:
        yield f"rollout.min_p = {rollout.min_p} has to be 0.0: {reason}."
    size = _vocabulary(config.model)
    problems = [*_stops("rollout", rollout, size)]
    # Unless it has its own, evaluation stops where training does.
    shared = (config.evaluation.stop, config.evaluation.stop_token_ids) == (rollout.stop, rollout.stop_token_ids)
    yield from problems if shared else [*problems, *_stops("evaluation", config.evaluation, size)]


def _stops(section: str, config: RolloutConfig | EvaluationConfig, vocabulary: int | None) -> Iterator[str]:
    if "" in config.stop:
        yield f"{section}.stop holds an empty text, at which every response would end; leave it out."
    for token in config.stop_token_ids:
        if token < 0 or (vocabulary is not None and token >= vocabulary):
            most = "" if vocabulary is None else f" and below the model's vocabulary of {vocabulary}"
            yield f"{section}.stop_token_ids: {token} is no token; it has to be at least 0{most}."


def _vocabulary(model: ModelConfig) -> int | None:
    """Tokens of the model; None where its folder does not say, which is reported elsewhere."""
    try:
        settings = json.loads((Path(model_folder(model.path)) / CONFIG).read_text(encoding="utf-8"))
        return int(settings.get("text_config", settings)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
