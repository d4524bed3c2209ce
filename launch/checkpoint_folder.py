"""A checkpoint on disk: safetensors by parameter name, JSON for the rest, and a manifest that proves it whole.

    step_000010/
      weights-00001.safetensors   fp32 weights of trained parameters, by name; exp_avg, exp_avg_sq ... alike
      random.safetensors          states of the ranks' generators, "<rank>.<device>"
      rollouts.safetensors        where responses wait for their batch: their tokens and log-probabilities
      state.json                  everything else
      deepspeed/                  instead of weights and moments with checkpoint.form = deepspeed: what it writes
      huggingface/                where asked for: the model as transformers and vLLM load it
      manifest.json               format, step, and size and sha256 of every other file

But for deepspeed/, nothing in it is pickled, and nothing depends on how the ranks shared the state.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from learner.group import LearnerGroup
from learner.snapshots import Header, Wholes

CHECKPOINTS = "checkpoints"
MANIFEST, STATE, RANDOM, ROLLOUTS = "manifest.json", "state.json", "random.safetensors", "rollouts.safetensors"
HUGGINGFACE, NATIVE = "huggingface", "deepspeed"
FORMAT, VERSION = "entrain checkpoint", 3
PREFIX, PARTIAL, DAMAGED = "step_", ".partial", ".damaged"


class CheckpointDamaged(Exception):
    """What the folder holds is not a whole checkpoint. The message says what is wrong, without a full stop."""


class Abandoned(Exception):
    """Nobody waits for this write any more."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest has been checked against its files.

    state  the content of state.json
    files  the names of all files
    """

    path: Path
    step: int
    state: dict[str, Any]
    files: list[str]

    @property
    def native(self) -> Path | None:
        """The folder in DeepSpeed's own form, which is pickled; None where the checkpoint is in the portable form."""
        return self.path / NATIVE if any(name.startswith(f"{NATIVE}/") for name in self.files) else None

    def restore(self, learner: LearnerGroup) -> None:
        """Let `learner` go on from here. A native one runs code that is in its files."""
        if self.native:
            learner.restore_native(self.native, self.header(), self.random())
        else:
            learner.restore(self.header(), self.random(), self.buckets())

    def header(self) -> Header:
        """What `LearnerGroup.restore` takes besides the arrays."""
        optimizer = self.state["optimizer"]
        shapes = {name: tuple(shape) for name, shape in self.state["shapes"].items()}
        return Header(shapes, optimizer["steps"], optimizer["moments"], self.state["controls"], {})

    def random(self) -> dict[str, np.ndarray]:
        """States of generators uint8 [bytes], by "<rank>.<device>"."""
        return safetensors.numpy.load_file(self.path / RANDOM)

    def rollouts(self) -> dict[str, np.ndarray]:
        """Tokens of the responses that waited for their batch, by name; nothing where none did."""
        return safetensors.numpy.load_file(self.path / ROLLOUTS) if ROLLOUTS in self.files else {}

    def buckets(self) -> Iterator[Wholes]:
        """Weights and moments; one bucket is in memory at a time."""
        kinds = ["weights", *self.state["optimizer"]["moments"]]
        for number in range(1, self.state["optimizer"]["buckets"] + 1):
            yield {kind: safetensors.numpy.load_file(self.path / _shard(kind, number)) for kind in kinds}


def folder_name(step: int) -> str:
    return f"{PREFIX}{step:06d}"


def partial_folder(checkpoints: Path, step: int) -> Path:
    """Where a checkpoint is written before it appears under its name; new and empty. Raises OSError."""
    partial = checkpoints / (folder_name(step) + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def write(
    partial: Path,
    step: int,
    state: Mapping[str, Any],
    random: Mapping[str, np.ndarray],
    rollouts: Mapping[str, np.ndarray],
    buckets: Iterable[Wholes],
    is_abandoned: Callable[[], bool],
) -> Path:
    """Fill `partial` and give it its name; a reader sees all of a checkpoint or nothing of it. Returns its path.

    state  what goes into state.json but the number of buckets, with a section "optimizer"

    Raises OSError, and Abandoned where `is_abandoned` says so meanwhile.
    """
    entries: dict[str, dict[str, Any]] = {}

    def put(name: str, content: bytes) -> None:
        if is_abandoned():
            raise Abandoned
        entries[name] = _entry(len(content), hashlib.sha256(content))
        _write_through(partial / name, content)

    # What is there already, whoever wrote it, belongs to the checkpoint.
    for file in sorted(path for path in partial.rglob("*") if path.is_file()):
        entries[str(file.relative_to(partial))] = _entry_of(file)
        _flush(file)
    count = 0
    for count, bucket in enumerate(buckets, start=1):
        for kind, arrays in bucket.items():
            put(_shard(kind, count), safetensors.numpy.save(dict(arrays), metadata={"format": "np"}))
    put(RANDOM, safetensors.numpy.save(dict(random)))
    if rollouts:
        put(ROLLOUTS, safetensors.numpy.save(dict(rollouts)))
    put(STATE, _json({**state, "optimizer": {**state["optimizer"], "buckets": count}}))
    put(MANIFEST, _json({"format": FORMAT, "version": VERSION, "step": step, "files": dict(entries)}))
    for folder in (*(path for path in partial.rglob("*") if path.is_dir()), partial):
        _flush(folder)
    final = partial.with_name(folder_name(step))
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _flush(final.parent)
    return final


def open_checkpoint(path: Path) -> Checkpoint:
    """Check every file of the checkpoint against its manifest. Raises CheckpointDamaged."""
    manifest = _read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), dict):
        raise CheckpointDamaged(f"{MANIFEST} is not that of a checkpoint")
    if manifest.get("version") != VERSION:
        raise CheckpointDamaged(
            f"it is in version {manifest.get('version')} of the format, and this code reads {VERSION}"
        )
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise CheckpointDamaged(f"{name} is missing")
        if file.stat().st_size != entry["bytes"]:
            raise CheckpointDamaged(f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}")
        if _entry_of(file)["sha256"] != entry["sha256"]:
            raise CheckpointDamaged(f"{name} is not what was written")
    return Checkpoint(path, manifest["step"], _read_json(path / STATE), list(manifest["files"]))


def steps_in(checkpoints: Path) -> list[int]:
    """Steps of the checkpoints in the folder, oldest first, whole or not."""
    names = (path.name.removeprefix(PREFIX) for path in checkpoints.glob(f"{PREFIX}*"))
    return sorted(int(name) for name in names if name.isdecimal())


def newest(checkpoints: Path, last: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, of step `last` or before where it is given, and a sentence about each newer one.

    Changes nothing.
    """
    sentences: list[str] = []
    for step in (step for step in reversed(steps_in(checkpoints)) if last is None or step <= last):
        path = checkpoints / folder_name(step)
        try:
            return open_checkpoint(path), sentences
        except CheckpointDamaged as damage:
            sentences.append(f"The checkpoint of step {step} is damaged: {damage}.")
    return None, sentences


def clear_leftovers(checkpoints: Path, step: int) -> None:
    """Remove what dead writes left behind, and set aside the damaged checkpoints of steps after `step`."""
    for partial in checkpoints.glob(f"{PREFIX}*{PARTIAL}"):
        shutil.rmtree(partial)
    for later in steps_in(checkpoints):
        if later > step:
            aside = checkpoints / (folder_name(later) + DAMAGED)
            shutil.rmtree(aside, ignore_errors=True)
            (checkpoints / folder_name(later)).rename(aside)


def remove(checkpoints: Path, step: int) -> None:
    """Remove a checkpoint. One that is removed in part is never taken for whole."""
    path = checkpoints / folder_name(step)
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path)


def _shard(kind: str, number: int) -> str:
    return f"{kind}-{number:05d}.safetensors"


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointDamaged(f"{file.name} cannot be read ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"{file.name} holds no object")
    return value


def _entry(size: int, digest: Any) -> dict[str, Any]:
    return {"bytes": size, "sha256": digest.hexdigest()}


def _entry_of(file: Path) -> dict[str, Any]:
    with open(file, "rb") as stream:
        return _entry(file.stat().st_size, hashlib.file_digest(stream, "sha256"))


def _write_through(file: Path, content: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
