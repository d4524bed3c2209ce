"""What sampling must satisfy: nothing cut from the distribution that is trained on, and stops that can occur."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from launch.config import EvaluationConfig, ModelConfig, RunConfig
from launch.limits import BOUNDS, beyond
from launch.model_folder import CONFIG, model_folder
from launch.sampling import of_set
from launch.validate_data import HELDOUT
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


def evaluation_set_problems(config: RunConfig) -> Iterator[str]:
    """Sentences about what evaluation sets have of their own, and about responses that are too long for the context."""
    evaluation, data = config.evaluation, config.data
    if evaluation.max_new_tokens != config.rollout.max_new_tokens:
        yield from _no_room("evaluation.max_new_tokens", evaluation, config.model)
    names = [*([HELDOUT] if data.heldout > 0 else []), *data.evaluation]
    for name, own in evaluation.sets.items():
        section = f"evaluation.sets.{name}"
        if name not in names:
            yield f"{section}: there is no evaluation set {name}; there are {', '.join(names)}."
            continue
        given = {f"evaluation.{field.name}" for field in fields(own) if getattr(own, field.name) is not None}
        bounds = [([each for each in settings if each in given], holds, said) for settings, holds, said in BOUNDS]
        with_own = of_set(evaluation, name)
        for sentence in beyond(replace(config, evaluation=with_own), {}, bounds):
            yield sentence.replace("evaluation", section, 1)
        if own.max_new_tokens is not None:
            yield from _no_room(f"{section}.max_new_tokens", with_own, config.model)


def _no_room(setting: str, evaluation: EvaluationConfig, model: ModelConfig) -> Iterator[str]:
    if evaluation.max_new_tokens >= model.context_tokens:
        yield (
            f"{setting} = {evaluation.max_new_tokens} leaves no room for a prompt in "
            f"model.context_tokens = {model.context_tokens}."
        )


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
