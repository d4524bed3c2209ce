"""An index file: the prompts to train on by name, and the question of each, so that other data is noticed."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout.seeds import keyed_hash
from rollout.sources import DataError
from rollout.types import Prompt

WRITE_ONE = "python -m launch.select_prompts writes one"


@dataclass(frozen=True)
class Entry:
    """A prompt of an index.

    cluster  of its embedding, 0 the largest
    digest   of its question, by `question_digest`
    """

    uid: str
    cluster: int
    digest: str


@dataclass(frozen=True)
class PromptIndex:
    """Prompts chosen from those of a data configuration.

    subset   what was chosen, in words, for the start of a run
    data     data.name of the configuration
    made     settings and counts it was made with (JSON values)
    entries  in the order of the sources' rows
    """

    subset: str
    data: str
    made: Mapping[str, Any]
    entries: tuple[Entry, ...]


def question_digest(prompt: Prompt) -> str:
    """What an index remembers of a question; the template, the tokenizer and the reference do not enter."""
    return f"{keyed_hash('question', prompt.identity):016x}"


def write_index(path: Path, index: PromptIndex) -> None:
    """As JSON, one prompt a line. Raises OSError."""
    head = {"subset": index.subset, "data": index.data, "made": index.made}
    prompts = ",\n".join(json.dumps(vars(entry), ensure_ascii=False) for entry in index.entries)
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    path.write_text(f'{text},\n "prompts": [\n{prompts}\n]}}\n', encoding="utf-8")


def read_index(path: Path) -> PromptIndex:
    """Raises DataError where `path` is no index or an empty one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(Entry(**entry) for entry in content["prompts"])
        index = PromptIndex(content["subset"], content["data"], content["made"], entries)
    except OSError as error:
        raise DataError(f"data.index: {path} cannot be read ({error.strerror}); {WRITE_ONE}.") from error
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"data.index: {path} is not an index of prompts ({reason}); {WRITE_ONE}.") from error
    if not entries:
        raise DataError(f"data.index: {path} names no prompt; {WRITE_ONE}.")
    uid, times = Counter(entry.uid for entry in entries).most_common(1)[0]
    if times > 1:
        raise DataError(f"data.index: {path} names {uid} {times} times; leave the repeats out.")
    return index


def narrowed(train: Mapping[str, Sequence[Prompt]], path: Path, data_name: str) -> tuple[dict[str, list[Prompt]], str]:
    """Of each source the prompts that the index at `path` names, and a sentence that says so.

    data_name  data.name of the run

    Raises DataError where one is not among them, or has another question than when the index was made.
    """
    index = read_index(path)
    prompts = {prompt.uid: prompt for of_source in train.values() for prompt in of_source}
    made_of = f"the index was made with data.name = {index.data}, and this run has {data_name}"
    unknown = [entry.uid for entry in index.entries if entry.uid not in prompts]
    if unknown:
        raise DataError(
            f"data.index: {len(unknown)} of the {len(index.entries)} prompts in {path} are not among the training "
            f"prompts, {unknown[0]} first; {made_of}. Give the same data and evaluation sets, or make the index again."
        )
    changed = [entry.uid for entry in index.entries if entry.digest != question_digest(prompts[entry.uid])]
    if changed:
        raise DataError(
            f"data.index: {len(changed)} of the {len(index.entries)} prompts in {path} have another question now, "
            f"{changed[0]} first; {made_of}. Give back the data, or make the index again."
        )
    chosen = {entry.uid for entry in index.entries}
    kept = {name: [prompt for prompt in of_source if prompt.uid in chosen] for name, of_source in train.items()}
    if lacking := [name for name, of_source in kept.items() if not of_source]:
        raise DataError(
            f"data.index: {path} names no prompt of the source {lacking[0]}; leave the source out, or make the index "
            "again."
        )
    return kept, f"data.index = {path}: {index.subset}, {len(chosen)} of {len(prompts)} prompts."
