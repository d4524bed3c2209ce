"""What the sources of prompts must satisfy before a row of them is read."""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from reward.verifiers import UnknownVerifier, import_path
from rollout.config import CurriculumConfig, DataConfig, SourceConfig
from rollout.fields import PROMPT
from rollout.prompt_index import WRITE_ONE
from rollout.prompts import NEEDED
from rollout.sources import unusable

TRAIN, HELDOUT = "train", "heldout"
NO_REFERENCE = ("refuse", "drop")


def evaluation_problems(data: DataConfig) -> Iterator[str]:
    """Sentences about the evaluation sets."""
    if not data.evaluation and not data.heldout:
        yield (
            "data.evaluation is empty and data.heldout = 0, so there is nothing to measure on: raise data.heldout or "
            "add a set."
        )
    if data.heldout > 0 and data.train.kind == "none":
        yield f"data.heldout = {data.heldout} takes rows of data.train, and data.train.kind is none."
    if data.heldout > 0 and HELDOUT in data.evaluation:
        yield (
            f"data.heldout = {data.heldout} makes an evaluation set named heldout, and data.evaluation has one of that "
            "name; set data.heldout=0 or rename the other."
        )
    if data.system is not None and not data.chat:
        yield "data.system is a message of the chat template; give data.chat=true with it."
    for name, source in data.evaluation.items():
        yield from _name(f"data.evaluation.{name}", name, (TRAIN, *data.mix))
        yield from _source(f"data.evaluation.{name}", source)
    if data.heldout > 0 and data.train.kind != "none":
        yield from _source("data.train", data.train)  # held-out rows are read as it says


def training_problems(data: DataConfig, prompts_per_step: int, samples_per_prompt: int) -> Iterator[str]:
    """Sentences about the sources to train on, and how they go with the evaluation sets."""
    if data.train.kind == "none":
        yield (
            f"data.train.kind is none: {data.name} is data to measure on. Give what to train on as "
            "data/source@data.train=... data.train.path=..."
        )
        return
    if data.heldout <= 0:  # or the evaluation sets have reported it
        yield from _source("data.train", data.train)
    for name, source in data.mix.items():
        yield from _name(f"data.mix.{name}", name, (TRAIN, HELDOUT))
        yield from _source(f"data.mix.{name}", source)
    training = {TRAIN: data.train, **data.mix}
    yield from _weights(data.weights, training)
    sources = {"data.train": data.train}
    sources |= {f"data.mix.{name}": source for name, source in data.mix.items()}
    sources |= {f"data.evaluation.{name}": source for name, source in data.evaluation.items()}
    for (first, one), (second, other) in combinations(sources.items(), 2):
        if _share_rows(one, other):
            yield (
                f"{second}.seed = {other.seed} repeats rows of {first}, whose seed is {one.seed}: row i of a "
                "reasoning-gym task is drawn from seed + i, so the seeds have to lie further apart than the rows."
            )
    if data.index is not None and not Path(data.index).is_file():
        yield f"data.index: there is no file {data.index}; {WRITE_ONE}."
    yield from _curriculum(data.curriculum, samples_per_prompt)
    rows = data.train.rows
    if rows is not None and rows < prompts_per_step and not data.mix:
        yield f"rollout.prompts_per_step = {prompts_per_step} is more than data.train.rows = {rows}."


def _curriculum(curriculum: CurriculumConfig, samples_per_prompt: int) -> Iterator[str]:
    lowest, highest = curriculum.lowest, curriculum.highest
    if lowest == 0.0:
        yield "data.curriculum.lowest = 0.0 passes over nothing, as no pass rate is below it; give more, or null."
    if highest == 1.0:
        yield "data.curriculum.highest = 1.0 passes over nothing, as no pass rate is above it; give less, or null."
    low, high = 0.0 if lowest is None else lowest, 1.0 if highest is None else highest
    if low > high:
        yield (
            f"data.curriculum.lowest = {low:g} is above data.curriculum.highest = {high:g}, so no prompt would be "
            "drawn a second time; exchange them."
        )
    elif not any(low <= right / samples_per_prompt <= high for right in range(samples_per_prompt + 1)):
        yield (
            f"data.curriculum allows pass rates from {low:g} to {high:g}, and no share of rollout.samples_per_prompt = "
            f"{samples_per_prompt} responses lies there: every prompt would be passed over once it has been drawn; "
            "widen the bounds, or raise samples_per_prompt."
        )


def _name(setting: str, name: str, taken: tuple[str, ...]) -> Iterator[str]:
    if name in taken or "/" in name:
        yield f"{setting}: prompts are named after their set, so it cannot be {' or '.join(taken)} or hold a slash."


def _weights(weights: Mapping[str, float], training: Mapping[str, SourceConfig]) -> Iterator[str]:
    for name in training:
        if name not in weights:
            yield f"data.weights has no weight for {name}; give +data.weights.{name}=..."
    for name, weight in weights.items():
        if name not in training:
            yield f"data.weights.{name}: there is no training source {name}; there are {', '.join(training)}."
        elif not (weight > 0 and math.isfinite(weight)):
            yield f"data.weights.{name} = {weight} has to be above 0 and finite; leave out a source by removing it."


def _source(setting: str, source: SourceConfig) -> Iterator[str]:
    if source.kind not in NEEDED:
        yield f"{setting}.kind = {source.kind} is not one of {', '.join(NEEDED)}."
        return
    for field in NEEDED[source.kind]:
        if getattr(source, field) is None:
            yield f"{setting}.{field} is needed for kind {source.kind}."
    if source.kind == "file":
        yield from _fields(setting, source)
        if source.path is not None and (reason := unusable(Path(source.path))):
            yield f"{setting}.path: {reason}."
    if PROMPT not in source.template:
        yield f"{setting}.template has no {{prompt}} in it, so every prompt would read the same."
    if source.prompt_wrapper is not None and source.prompt_wrapper.count(PROMPT) != 1:
        yield f"{setting}.prompt_wrapper has to hold {{prompt}} once, to say where the question stands."
    if source.no_reference not in NO_REFERENCE:
        yield f"{setting}.no_reference = {source.no_reference} is not one of {', '.join(NO_REFERENCE)}."
    if source.first_row < 0:
        yield f"{setting}.first_row = {source.first_row} must not be negative."
    if source.rows is not None and source.rows < 1:
        yield f"{setting}.rows = {source.rows} has to be at least 1."
    try:
        import_path(source.verifier)
    except UnknownVerifier as error:
        yield f"{setting}.verifier: {error}."


def _fields(setting: str, source: SourceConfig) -> Iterator[str]:
    prompt, gold = source.prompt_field, source.gold_field
    several = prompt if isinstance(prompt, list) and prompt else [prompt]
    if prompt is not None and not all(isinstance(path, str) and path for path in several):
        yield f"{setting}.prompt_field = {prompt} is not the name of a field or a list of such names."
    mapped = list(gold.values()) if isinstance(gold, dict) and gold else [gold]
    if gold is not None and not all(isinstance(path, str) and path for path in mapped):
        yield f"{setting}.gold_field = {gold} is not the name of a field or an object of such names."
    if isinstance(gold, dict) and source.gold_after is not None:
        yield f"{setting}.gold_after cuts a text, and {setting}.gold_field makes an object; set one of them otherwise."


def _share_rows(one: SourceConfig, other: SourceConfig) -> bool:
    if one.seed is None or one.rows is None or other.seed is None or other.rows is None:
        return False
    same_task = (one.kind, one.task, one.parameters) == (other.kind, other.task, other.parameters)
    begin, other_begin = one.seed + one.first_row, other.seed + other.first_row
    return same_task and begin < other_begin + other.rows and other_begin < begin + one.rows
