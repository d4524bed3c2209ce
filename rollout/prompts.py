"""Prompts of a run: read from their source, checked, and handed out in a reproducible order."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rollout.config import SourceConfig
from rollout.curriculum import Curriculum
from rollout.failures import PromptsExhausted
from rollout.fields import Message, filled, gold_of, messages_of, paths, source_of
from rollout.overlap import normalised
from rollout.procedural import reasoning_gym_rows
from rollout.seeds import keyed_hash
from rollout.sources import DataError, Row, read_rows
from rollout.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What a source of each kind cannot be read without.
NEEDED = {"reasoning_gym": ("task", "seed", "rows"), "file": ("path", "prompt_field", "gold_field")}


def load_source(
    name: str,
    source: SourceConfig,
    tokenizer: "PreTrainedTokenizerBase",
    chat: bool = False,
    system: str | None = None,
) -> list[Prompt]:
    """The prompts of `source`, templates applied, tokenized without special tokens; uids are "<name>/<row>".

    With `chat` the tokenizer's own chat template is applied too, `system` being the system's message. Raises DataError.
    """
    for field in NEEDED[source.kind]:
        if getattr(source, field) is None:
            raise DataError(f"{name}: {field} is needed for kind {source.kind}.")
    if chat and getattr(tokenizer, "chat_template", None) is None:
        raise DataError(
            "data.chat = true needs the chat template of the tokenizer, and that of model.path has none: set "
            "data.chat=false, or take a model that comes with one."
        )
    texts, golds, identities, numbers, sources = [], [], [], [], []
    for row, messages, gold in _tasks(name, source):
        question = messages[-1]["content"]
        messages[-1]["content"] = filled(source.template, question, row)
        texts.append(_chat_text(row, messages, system, tokenizer) if chat else _plain_text(row, messages))
        # Procedural questions differ in what normalising takes away, such as the signs of a sum.
        identities.append(question if source.kind == "reasoning_gym" else normalised(question))
        golds.append(gold)
        numbers.append(row.number)
        sources.append(source_of(row, source, name))
    _check_count(name, source, len(texts))
    token_ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [
        Prompt(
            uid=f"{name}/{number}",
            text=text,
            token_ids=np.asarray(ids, dtype=np.int32),
            source=own,
            verifier=source.verifier,
            gold=gold,
            metadata={},
            identity=identity,
        )
        for number, text, ids, gold, identity, own in zip(
            numbers, texts, token_ids, golds, identities, sources, strict=True
        )
    ]


def check_lengths(prompts: Iterable[Prompt], limit: int, setting: str) -> None:
    """Raise DataError for the first prompt longer than `limit` = model.context_tokens - what `setting` says."""
    for prompt in prompts:
        if len(prompt.token_ids) > limit:
            raise DataError(
                f"Prompt {prompt.uid} has {len(prompt.token_ids)} tokens, and the context leaves {limit} beside the "
                f"response: raise model.context_tokens, lower {setting}, or leave the row out."
            )


class PromptSource:
    """Hands out prompts for ever, each once an epoch, never one twice in a step.

    The order of an epoch is a keyed hash of (seed, epoch, uid), so it does not depend on the order of the rows. Where
    an epoch ends within a step, the next one puts the prompts of that step last. A prompt that a curriculum does not
    allow is passed over in that epoch.
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

    def next(self, curriculum: Curriculum | None = None) -> list[Prompt]:
        """The prompts of the next step. Raises PromptsExhausted where the curriculum allows too few."""
        return self.take(self._prompts_per_step, curriculum)

    def take(self, count: int, curriculum: Curriculum | None = None) -> list[Prompt]:
        """The next `count` prompts, at most as many as there are, for a step that takes fewer than `next`."""
        taken: dict[str, Prompt] = {}
        barren = 0  # epochs gone through in which there was none for this step
        while len(taken) < count:
            if self._position == len(self._order):
                self._start_epoch(self._epoch + 1, deferred=list(taken))
            before, whole = len(taken), self._position == 0
            self._take_from_epoch(taken, count, curriculum)
            barren = barren + 1 if whole and len(taken) == before else 0
            if curriculum and barren == curriculum.cycle:
                raise PromptsExhausted(curriculum.refusal(len(taken), count))
        return list(taken.values())

    def _take_from_epoch(self, taken: dict[str, Prompt], count: int, curriculum: Curriculum | None) -> None:
        while len(taken) < count and self._position < len(self._order):
            uid = self._order[self._position]
            self._position += 1
            if curriculum is None or curriculum.allows(uid, self._epoch):
                taken[uid] = self._prompts[uid]

    def prompt(self, uid: str) -> Prompt:
        """The prompt of that uid."""
        return self._prompts[uid]

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


def _tasks(name: str, source: SourceConfig) -> Iterator[tuple[Row, list[Message], Any]]:
    """Each row with its question as a chat, and its reference."""
    if source.kind == "reasoning_gym":
        for row in reasoning_gym_rows(name, source):
            question = row.fields["question"]
            yield row, [{"role": "user", "content": question}], {"task": source.task, "entry": row.fields}
    else:
        for row in read_rows(Path(str(source.path)), source.first_row, source.rows, paths(source)):
            yield row, messages_of(row, source), gold_of(row, source)


def _plain_text(row: Row, messages: Sequence[Message]) -> str:
    if len(messages) > 1:
        raise DataError(f"{row.where} holds a chat of {len(messages)} messages; give data.chat=true.")
    return messages[0]["content"]


def _chat_text(row: Row, messages: list[Message], system: str | None, tokenizer: "PreTrainedTokenizerBase") -> str:
    from jinja2 import TemplateError

    if system is not None:
        rest = messages[1:] if messages[0]["role"] == "system" else messages
        messages = [{"role": "system", "content": system}, *rest]
    # White space at the end belongs to prompts that a base model continues.
    messages = [*messages[:-1], messages[-1] | {"content": messages[-1]["content"].rstrip()}]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (TemplateError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(f"{row.where}: the chat template refuses the messages ({roles}): {error}.") from error


def _check_count(name: str, source: SourceConfig, count: int) -> None:
    if not count:
        what = f"no row {source.first_row} or later" if source.first_row else "no rows"
        raise DataError(f"{name}: {source.path} has {what}.")
    if source.rows is not None and count < source.rows:
        raise DataError(
            f"{name}: {source.path} has {count} rows from row {source.first_row} on, and rows = {source.rows} asks "
            "for more; lower rows, or set it to null to take all."
        )
