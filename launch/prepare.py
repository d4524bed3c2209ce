"""Everything that can be known before an actor starts: settings, prompts, their lengths."""

from dataclasses import dataclass

import numpy as np

from launch.config import ConfigError, RunConfig
from launch.model_folder import model_folder
from launch.validate import raise_if_any
from rollout.prompts import DataError, PromptSource, check_lengths, drop_overlap, load_source
from rollout.types import Prompt


@dataclass(frozen=True)
class Prepared:
    """The prompts of a run.

    train          the source of training prompts
    evaluation     prompts of each evaluation set
    train_prompts  distinct training prompts
    dropped        training prompts left out because an evaluation set has them
    canary         token ids of the prompts that engines and learner score after every sync
    """

    train: PromptSource
    evaluation: dict[str, list[Prompt]]
    train_prompts: int
    dropped: int
    canary: list[np.ndarray]

    def sentence(self) -> str:
        """What was loaded, for the top of the display."""
        sets = ", ".join(f"{name} {len(prompts)}" for name, prompts in self.evaluation.items())
        left_out = f" ({self.dropped} left out, they are in an evaluation set)" if self.dropped else ""
        return f"Prompts: {self.train_prompts} to train on{left_out}; evaluation: {sets}."


def canary_sequences(prompts: list[Prompt], count: int) -> list[np.ndarray]:
    """The first `count` prompts with at least two tokens: of one token there is nothing to predict.

    Raises ConfigError where there is none.
    """
    sequences = [p.token_ids for p in prompts if len(p.token_ids) > 1][:count]
    if not sequences:
        raise ConfigError("No training prompt has two tokens or more, so no sync of weights could be checked.")
    return sequences


def verifiers(config: RunConfig) -> set[str]:
    """Names of all verifiers the data of a run asks for."""
    return {source.verifier for source in (config.data.train, *config.data.evaluation.values())}


def prepare(config: RunConfig) -> Prepared:
    """Check the configuration, load and check all prompts. Raises ConfigError with every problem it can see at once."""
    raise_if_any(config)
    from transformers import AutoTokenizer

    folder = model_folder(config.model.path)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=config.model.trust_remote_code)
    limit = config.model.context_tokens - config.rollout.max_new_tokens
    try:
        evaluation = {name: load_source(name, source, tokenizer) for name, source in config.data.evaluation.items()}
        train, dropped = drop_overlap(load_source("train", config.data.train, tokenizer), evaluation.values())
        for prompts in [train, *evaluation.values()]:
            check_lengths(prompts, limit)
        source = PromptSource(train, config.rollout.prompts_per_step, config.data.shuffle, config.seed)
    except DataError as error:
        raise ConfigError(str(error)) from error
    canary = canary_sequences(train, config.rollout.canary_prompts)
    return Prepared(source, evaluation, len(train), dropped, canary)
