"""Rollout batches of a run on disk: all that the learner is given for a step, to be trained on again.

RUN/batches/step_000007.safetensors holds the arrays of a `TokenBatch` by name, those that the batch lacks left out, and
the rewards; format, version, step and sampling temperature stand as JSON in its header. Nothing is pickled.
Minibatches, passes and what the entropy controls decide follow from it, the settings, and the state before the step.
"""

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from launch.checkpoint_folder import PREFIX, folder_name
from learner.types import TokenBatch

BATCHES = "batches"
SUFFIX = ".safetensors"
FORMAT, VERSION = "entrain batch", 2
HEADER, REWARDS, TEMPERATURE = "entrain", "rewards", "temperature"


class BatchUnusable(Exception):
    """What is on disk is not a batch that can be trained on. The message is a sentence without its full stop."""


@dataclass(frozen=True)
class SavedBatch:
    """A step's batch as its learner was given it.

    step     from 1
    rewards  float64 [N], of each sample, before any penalty for its divergence from the reference policy
    """

    step: int
    batch: TokenBatch
    rewards: np.ndarray


def batch_path(run: Path, step: int) -> Path:
    return run / BATCHES / (folder_name(step) + SUFFIX)


def steps_saved(run: Path) -> list[int]:
    """Steps whose batches are in the folder of the run, in order."""
    names = (path.name.removeprefix(PREFIX).removesuffix(SUFFIX) for path in (run / BATCHES).glob(f"{PREFIX}*{SUFFIX}"))
    return sorted(int(name) for name in names if name.isdecimal())


def write_batch(run: Path, saved: SavedBatch) -> Path:
    """Write the batch in one piece, over one of the same step. Returns its path; raises OSError."""
    path = batch_path(run, saved.step)
    path.parent.mkdir(exist_ok=True)
    arrays = {field.name: getattr(saved.batch, field.name) for field in fields(TokenBatch)}
    temperature = arrays.pop(TEMPERATURE)
    given = {name: np.ascontiguousarray(values) for name, values in arrays.items() if values is not None}
    header = {"format": FORMAT, "version": VERSION, "step": saved.step, TEMPERATURE: temperature}
    content = safetensors.numpy.save({**given, REWARDS: saved.rewards}, metadata={HEADER: json.dumps(header)})
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return path


def read_batch(run: Path, step: int) -> SavedBatch:
    """The batch of a step. Raises BatchUnusable."""
    path = batch_path(run, step)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            header = _header(file.metadata())
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise BatchUnusable(f"{path} cannot be read ({error})") from error
    if (header.get("format"), header.get("version"), header.get("step")) != (FORMAT, VERSION, step):
        raise BatchUnusable(f"{path} is not the batch of step {step} in version {VERSION} of the format")
    try:
        rewards = arrays.pop(REWARDS)
        found = {field.name: arrays.pop(field.name, None) for field in fields(TokenBatch)}
        return SavedBatch(step, TokenBatch(**found | {TEMPERATURE: header[TEMPERATURE]}), rewards)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BatchUnusable(f"{path} does not hold a whole batch: {error}") from error


def remove_batches(run: Path, first: int, last: int | None) -> None:
    """Remove the batches of steps from `first` to `last`, None for all later ones, and what dead writes left."""
    for step in steps_saved(run):
        if first <= step and (last is None or step <= last):
            batch_path(run, step).unlink()
    for partial in (run / BATCHES).glob("*.partial"):
        partial.unlink()


def _header(metadata: dict[str, str] | None) -> dict[str, Any]:
    value = json.loads((metadata or {}).get(HEADER, "{}"))
    return value if isinstance(value, dict) else {}
