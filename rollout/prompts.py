"""Prompts of a run: read from their source, checked, and handed out in a reproducible order."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rollout.config import SourceConfig
from rollout.seeds import keyed_hash
from rollout.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class DataError(ValueError):
    """A source of prompts that cannot be used as it is. The message names the file and the row."""


@dataclass(frozen=True)
class _Row:
    row: int
    question: str
    gold: Any


def load_source(name: str, source: SourceConfig, tokenizer: "PreTrainedTokenizerBase") -> list[Prompt]:
    """The prompts of `source`, template applied, tokenized without special tokens; uids are "<name>/<row>".

    Raises DataError.
    """
    readers = {"reasoning_gym": _reasoning_gym_rows, "jsonl": _jsonl_rows}
    rows = list(readers[source.kind](name, source))
    if not rows:
        what = f"no row {source.first_row} or later" if source.first_row else "no rows"
        raise DataError(f"{name}: {source.path} has {what}.")
    if source.rows is not None and len(rows) < source.rows:
        raise DataError(
            f"{name}: {source.path} has {len(rows)} rows from row {source.first_row} on, and rows = {source.rows} asks "
            "for more; lower rows, or set it to null to take all."
        )
    # Not str.format: questions and templates hold braces of their own, as in \boxed{}.
    texts = [source.template.replace("{prompt}", row.question) for row in rows]
    token_ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [
        Prompt(
            uid=f"{name}/{row.row}",
            text=text,
            token_ids=np.asarray(ids, dtype=np.int32),
            source=name,
            verifier=source.verifier,
            gold=row.gold,
            metadata={},
        )
        for row, text, ids in zip(rows, texts, token_ids, strict=True)
    ]


def check_lengths(prompts: Iterable[Prompt], limit: int) -> None:
    """Raise DataError for the first prompt longer than `limit` = model.context_tokens - rollout.max_new_tokens."""
    for prompt in prompts:
        if len(prompt.token_ids) > limit:
            raise DataError(
                f"Prompt {prompt.uid} has {len(prompt.token_ids)} tokens, and the context leaves {limit} beside the "
                "response: raise model.context_tokens, lower rollout.max_new_tokens, or leave the row out."
            )


def drop_overlap(train: Sequence[Prompt], evaluation: Iterable[Sequence[Prompt]]) -> tuple[list[Prompt], int]:
    """Training prompts whose text is in no evaluation set, and how many were left out."""
    held_out = {prompt.text for prompts in evaluation for prompt in prompts}
    kept = [prompt for prompt in train if prompt.text not in held_out]
    return kept, len(train) - len(kept)


class PromptSource:
    """Hands out prompts for ever, each once an epoch, never one twice in a step.

    The order of an epoch is a keyed hash of (seed, epoch, uid), so it does not depend on the order of the rows. Where
    an epoch ends within a step, the next one puts the prompts of that step last.
    """

    def __init__(self, prompts: Sequence[Prompt], prompts_per_step: int, shuffle: bool, seed: int):
        if len(prompts) < prompts_per_step:
            raise DataError(
                f"There are {len(prompts)} training prompts, fewer than rollout.prompts_per_step = {prompts_per_step}."
            )
        self._prompts = {prompt.uid: prompt for prompt in prompts}
        if len(self._prompts) < len(prompts):
            raise DataError("Two training prompts have the same uid.")
        self._prompts_per_step = prompts_per_step
        self._shuffle = shuffle
        self._seed = seed
        self._epoch, self._position = 0, 0
        self._start_epoch(0, deferred=[])

    def next(self) -> list[Prompt]:
        """The prompts of the next step."""
        end = self._position + self._prompts_per_step
        uids = self._order[self._position : end]
        self._position = end
        if end > len(self._order):
            missing = end - len(self._order)
            self._start_epoch(self._epoch + 1, deferred=uids)
            uids = uids + self._order[:missing]
            self._position = missing
        return [self._prompts[uid] for uid in uids]

    def state_dict(self) -> dict[str, Any]:
        """JSON values from which a source of the same prompts goes on with the same steps."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "deferred": self._deferred,
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises DataError where the prompts or their order are others."""
        if state["fingerprint"] != self._fingerprint():
            raise DataError("The training prompts, data.shuffle or seed differ from those of the checkpoint.")
        self._start_epoch(state["epoch"], state["deferred"])
        self._position = state["position"]

    def _start_epoch(self, epoch: int, deferred: list[str]) -> None:
        order = list(self._prompts)
        if self._shuffle:
            order.sort(key=lambda uid: keyed_hash("order", self._seed, epoch, uid))
        late = set(deferred)
        self._order = [uid for uid in order if uid not in late] + [uid for uid in order if uid in late]
        self._epoch, self._position = epoch, 0
        self._deferred = list(deferred)

    def _fingerprint(self) -> int:
        # With shuffling the order of the rows does not matter, without it, it does.
        uids = sorted(self._prompts) if self._shuffle else list(self._prompts)
        texts = (self._prompts[uid].text for uid in uids)
        return keyed_hash("prompts", self._shuffle, self._seed, *uids, *texts)


def _reasoning_gym_rows(name: str, source: SourceConfig) -> Iterator[_Row]:
    # Imported here because its 106 tasks take a second that runs on files need not spend.
    import reasoning_gym

    task, seed, rows = (_needed(name, source, field) for field in ("task", "seed", "rows"))
    size = source.first_row + rows
    try:
        dataset = reasoning_gym.create_dataset(task, size=size, seed=seed, **source.parameters)
    except (ValueError, TypeError, AssertionError) as error:
        raise DataError(f"{name}: reasoning-gym refuses {task} with {source.parameters}: {error}.") from error
    for row in range(source.first_row, size):
        entry = dataset[row]
        try:
            # Tuples become lists here, so that the gold is the same before and after it was stored.
            entry = json.loads(json.dumps(entry))
        except TypeError as error:
            raise DataError(f"{name}: row {row} of reasoning-gym's {task} is not JSON: {error}.") from error
        yield _Row(row, entry["question"], {"task": task, "entry": entry})


def _jsonl_rows(name: str, source: SourceConfig) -> Iterator[_Row]:
    path = Path(_needed(name, source, "path"))
    prompt_field, gold_field = _needed(name, source, "prompt_field"), _needed(name, source, "gold_field")
    if not path.is_file():
        raise DataError(f"{name}: there is no file {path}.")
    end = None if source.rows is None else source.first_row + source.rows
    with path.open("rb") as file:
        # Blank lines are no rows, so rows are counted without them and lines with them.
        lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        for row, (number, line) in islice(enumerate(lines), source.first_row, end):
            fields = _parse(path, number, line)
            where = f"{path}, row {row}"
            gold = _gold(where, fields, gold_field, source.gold_after)
            yield _Row(row, _question(where, fields, prompt_field), gold)


def _needed(name: str, source: SourceConfig, field: str) -> Any:
    value = getattr(source, field)
    if value is None:
        raise DataError(f"{name}: {field} is needed for kind {source.kind}.")
    return value


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line.decode().strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number} is not UTF-8: {error.reason} at byte {error.start}.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number} is not JSON: {error.msg} at column {error.colno}.") from error
    if not isinstance(fields, dict):
        raise DataError(f"{path}, line {number} is not a JSON object but {type(fields).__name__}.")
    return fields


def _question(where: str, fields: dict[str, Any], field: str) -> str:
    question = _field(where, fields, field)
    if not isinstance(question, str):
        raise DataError(f"{where}: field {field!r} is not text but {type(question).__name__}.")
    if not question.strip():
        raise DataError(f"{where}: field {field!r} is empty.")
    return question


def _gold(where: str, fields: dict[str, Any], field: str, after: str | None) -> str:
    gold = _field(where, fields, field)
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        gold = f"{gold:.15g}"
    if not isinstance(gold, str):
        raise DataError(f"{where}: field {field!r} is neither text nor a number but {type(gold).__name__}.")
    if after is not None:
        _, marker, gold = gold.rpartition(after)
        if not marker:
            raise DataError(f"{where}: {after!r} is not in field {field!r}.")
    gold = gold.strip()
    if not gold:
        raise DataError(f"{where}: field {field!r} holds no reference.")
    return gold


def _field(where: str, fields: dict[str, Any], field: str) -> Any:
    if field not in fields:
        raise DataError(f"{where} has no field {field!r}; its fields are {', '.join(fields)}.")
    return fields[field]
