"""Everything that can be known before an actor starts: settings, prompts, their lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from launch.config import ConfigError, RunConfig
from launch.model_folder import model_folder
from launch.sampling import of_set
from launch.validate import raise_if_any
from launch.validate_data import HELDOUT, TRAIN
from reward.sandbox import Sandbox, SandboxUnavailable
from rollout.config import DataConfig, SourceConfig
from rollout.mixing import MixedSource
from rollout.overlap import overlaps, refusal, without_repeats
from rollout.prompt_index import narrowed
from rollout.prompts import PromptSource, check_lengths, load_source
from rollout.sources import DataError
from rollout.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prepared:
    """The prompts of a run.

    train          the source of training prompts
    evaluation     prompts of each evaluation set
    train_prompts  training prompts of each source
    dropped        training prompts left out because an evaluation set has them
    repeats        training prompts left out because another is the same
    unjudged       prompts of any set left out because their row has no reference
    index          sentence about the prompts that data.index chose; None where all are trained on
    canary         token ids of the prompts that engines and learner score after every sync
    """

    train: PromptSource | MixedSource
    evaluation: dict[str, list[Prompt]]
    train_prompts: dict[str, int]
    dropped: int
    repeats: int
    unjudged: int
    index: str | None
    canary: list[np.ndarray]

    def sentence(self) -> str:
        """What was loaded, for the top of the display."""
        sets = ", ".join(f"{name} {len(prompts)}" for name, prompts in self.evaluation.items())
        total = sum(self.train_prompts.values())
        by_source = ", ".join(f"{name} {count}" for name, count in self.train_prompts.items())
        mixture = f" ({by_source})" if len(self.train_prompts) > 1 else ""
        reasons = [f"{self.dropped} left out, they are in an evaluation set"] if self.dropped else []
        reasons += [f"{self.repeats} left out, they repeat others"] if self.repeats else []
        reasons += [f"{self.unjudged} left out, they have no reference"] if self.unjudged else []
        left_out = f" ({'; '.join(reasons)})" if reasons else ""
        prompts = f"Prompts: {total} to train on{mixture}{left_out}; evaluation: {sets}."
        return " ".join([prompts, self.index] if self.index else [prompts])


@dataclass(frozen=True)
class _Loaded:
    """The prompts of all sources, those left out counted as `Prepared` has it."""

    evaluation: dict[str, list[Prompt]]
    train: dict[str, list[Prompt]]
    dropped: int
    repeats: int
    unjudged: int


def training_sources(data: DataConfig) -> dict[str, SourceConfig]:
    """The sources to train on by name, held-out rows left out; none for data to measure on only."""
    if data.train.kind == "none":
        return {}
    return {TRAIN: replace(data.train, first_row=data.train.first_row + data.heldout), **data.mix}


def evaluation_sources(data: DataConfig) -> dict[str, SourceConfig]:
    """The sets to measure on by name, the held-out rows of the training source first."""
    if not data.heldout:
        return dict(data.evaluation)
    return {HELDOUT: replace(data.train, rows=data.heldout), **data.evaluation}


def canary_sequences(prompts: list[Prompt], count: int) -> list[np.ndarray]:
    """The first `count` prompts with at least two tokens: of one token there is nothing to predict.

    Raises ConfigError where there is none.
    """
    sequences = [p.token_ids for p in prompts if len(p.token_ids) > 1][:count]
    if not sequences:
        raise ConfigError("No training prompt has two tokens or more, so no sync of weights could be checked.")
    return sequences


def verifiers(config: RunConfig) -> set[str]:
    """Names of all verifiers that the data of a run and the terms of its reward ask for."""
    sources = [*training_sources(config.data).values(), *evaluation_sources(config.data).values()]
    return {source.verifier for source in sources} | set(config.reward.terms.verifiers)


def sandbox_sentences(config: RunConfig) -> list[str]:
    """What programs are kept from on this machine, where verdicts come from running them.

    A machine with too little says so and no more: the workers may be elsewhere, and it is they who refuse.
    """
    if "code" not in verifiers(config):
        return []
    try:
        return [Sandbox(config.reward.sandbox).sentence()]
    except SandboxUnavailable as error:
        return [f"No program runs here: {error}."]


def prepare(config: RunConfig) -> Prepared:
    """Check the configuration, load and check all prompts. Raises ConfigError with every problem it can see at once."""
    raise_if_any(config)
    try:
        loaded, index = _loaded(config), None
        train = loaded.train
        if config.data.index is not None:
            train, index = narrowed(train, Path(config.data.index), config.data.name)
        source = _source(config, train)
    except DataError as error:
        raise ConfigError(str(error)) from error
    counts = {name: len(prompts) for name, prompts in train.items()}
    canary = canary_sequences([p for prompts in train.values() for p in prompts], config.rollout.canary_prompts)
    return Prepared(source, loaded.evaluation, counts, loaded.dropped, loaded.repeats, loaded.unjudged, index, canary)


def training_prompts(config: RunConfig) -> list[Prompt]:
    """The prompts a run of `config` would train on without data.index. Raises ConfigError as `prepare` does."""
    raise_if_any(config)
    try:
        return [prompt for prompts in _loaded(config).train.values() for prompt in prompts]
    except DataError as error:
        raise ConfigError(str(error)) from error


def prepare_evaluation(config: RunConfig) -> dict[str, list[Prompt]]:
    """The prompts of each evaluation set, for a run that does not train. Raises ConfigError."""
    raise_if_any(config, training=False)
    try:
        evaluation, _ = _load(config.data, evaluation_sources(config.data), _tokenizer(config))
        _check_lengths(config, {}, evaluation)
    except DataError as error:
        raise ConfigError(str(error)) from error
    return evaluation


def _loaded(config: RunConfig) -> _Loaded:
    data, sources, tokenizer = config.data, training_sources(config.data), _tokenizer(config)
    evaluation, unmeasured = _load(data, evaluation_sources(data), tokenizer)
    train, untrained = _load(data, sources, tokenizer)
    kept, dropped = _without_overlap(data, train, evaluation)
    distinct = _without_repeats(sources, kept)
    _check_lengths(config, distinct, evaluation)
    return _Loaded(evaluation, distinct, dropped, _count(kept) - _count(distinct), unmeasured + untrained)


def _tokenizer(config: RunConfig) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    folder = model_folder(config.model.path)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=config.model.trust_remote_code)


def _load(
    data: DataConfig, sources: Mapping[str, SourceConfig], tokenizer: "PreTrainedTokenizerBase"
) -> tuple[dict[str, list[Prompt]], int]:
    """The prompts of each source that have a reference, and how many have none."""
    loaded = {name: load_source(name, source, tokenizer, data.chat, data.system) for name, source in sources.items()}
    judged = {name: [prompt for prompt in prompts if prompt.gold is not None] for name, prompts in loaded.items()}
    return judged, _count(loaded) - _count(judged)


def _without_overlap(
    data: DataConfig, train: Mapping[str, list[Prompt]], evaluation: Mapping[str, list[Prompt]]
) -> tuple[dict[str, list[Prompt]], int]:
    """Training prompts without those of evaluation sets, and how many were left out.

    Raises DataError where data.overlap refuses them. What repeats within one file, or within a procedural task, is no
    sign of a mistake: there the split is our own, and the rows are always left out.
    """
    training, measured = training_sources(data), evaluation_sources(data)
    kept, dropped = {}, 0
    refused: dict[str, list[Prompt]] = {}
    for name, prompts in train.items():
        found = overlaps(prompts, evaluation)
        for other, same in found.items():
            if data.overlap == "refuse" and _origin(training[name]) != _origin(measured[other]):
                refused.setdefault(other, []).extend(same)
        leave_out = {prompt.uid for same in found.values() for prompt in same}
        kept[name] = [prompt for prompt in prompts if prompt.uid not in leave_out]
        dropped += len(leave_out)
    if refused:
        raise DataError(refusal(refused))
    return kept, dropped


def _origin(source: SourceConfig) -> str:
    return source.kind if source.path is None else str(Path(source.path).resolve())


def _without_repeats(sources: Mapping[str, SourceConfig], train: Mapping[str, list[Prompt]]) -> dict[str, list[Prompt]]:
    """Training prompts without repeats across all files. A procedural task repeats as often as it is drawn to."""
    files = (prompt for name, prompts in train.items() if sources[name].kind == "file" for prompt in prompts)
    first = {prompt.uid for prompt in without_repeats(files)}
    return {
        name: [prompt for prompt in prompts if sources[name].kind != "file" or prompt.uid in first]
        for name, prompts in train.items()
    }


def _check_lengths(
    config: RunConfig, train: Mapping[str, list[Prompt]], evaluation: Mapping[str, list[Prompt]]
) -> None:
    room = config.model.context_tokens
    for prompts in train.values():
        check_lengths(prompts, room - config.rollout.max_new_tokens, "rollout.max_new_tokens")
    for name, prompts in evaluation.items():
        longest = of_set(config.evaluation, name).max_new_tokens
        check_lengths(prompts, room - longest, "evaluation.max_new_tokens")


def _source(config: RunConfig, train: Mapping[str, list[Prompt]]) -> PromptSource | MixedSource:
    data, per_step = config.data, config.rollout.prompts_per_step
    if len(train) == 1:
        return PromptSource(train[TRAIN], per_step, data.shuffle, config.seed)
    return MixedSource(train, data.weights, per_step, data.shuffle, config.seed)


def _count(sets: Mapping[str, Sequence[Prompt]]) -> int:
    return sum(len(prompts) for prompts in sets.values())
