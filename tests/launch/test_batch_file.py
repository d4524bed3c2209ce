"""Batches on disk come back bit for bit; what is none is refused in words, and nothing in it runs."""

import json
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from launch.batch_file import (
    BatchUnusable,
    SavedBatch,
    batch_path,
    read_batch,
    remove_batches,
    steps_saved,
    write_batch,
)
from learner.types import TokenBatch

BATCH = TokenBatch(
    tokens=np.array([5, 6, 7, 8, 9], np.int32),
    lengths=np.array([3, 2], np.int32),
    prompt_lengths=np.array([1, 1], np.int32),
    groups=np.array([0, 0], np.int32),
    sample_keys=np.array([2**64 - 1, 3], np.uint64),
    temperature=0.1 + 0.6,
    behaviour_logprobs=np.array([-0.5, -np.inf, -1e-30], np.float32),
    mask=np.array([True, True, False]),
    versions=np.array([6, 6, 6], np.int32),
    advantages=np.array([0.25, np.nan, -0.0], np.float32),
    old_logprobs=None,
    old_entropies=None,
    reference_logprobs=np.array([-0.1, -0.2, -0.3], np.float32),
)
SAVED = SavedBatch(7, BATCH, np.array([1.0, -0.1]))


def test_what_the_learner_got_comes_back_bit_for_bit(tmp_path):
    path = write_batch(tmp_path, SAVED)
    assert path == tmp_path / "batches" / "step_000007.safetensors"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    found = read_batch(tmp_path, 7)
    assert found.step == 7
    assert found.rewards.tobytes() == SAVED.rewards.tobytes()
    assert found.batch.temperature == BATCH.temperature == 0.1 + 0.6  # 0.7 and a bit
    for field in fields(TokenBatch):
        if field.name == "temperature":
            continue
        got, wanted = getattr(found.batch, field.name), getattr(BATCH, field.name)
        assert (got is None) == (wanted is None), field.name
        if wanted is not None:
            assert (got.dtype, got.tobytes()) == (wanted.dtype, wanted.tobytes()), field.name


def test_batches_are_removed_by_step_and_leftovers_with_them(tmp_path):
    for step in (3, 7, 10, 11):
        write_batch(tmp_path, replace(SAVED, step=step))
    (tmp_path / "batches" / "step_000012.partial").touch()
    remove_batches(tmp_path, 1, 3)
    assert steps_saved(tmp_path) == [7, 10, 11]
    remove_batches(tmp_path, 8, None)
    assert steps_saved(tmp_path) == [7]
    assert [path.name for path in (tmp_path / "batches").iterdir()] == ["step_000007.safetensors"]
    remove_batches(tmp_path / "none", 1, None)


class Malice:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_what_is_no_batch_is_refused_and_runs_nothing(tmp_path):
    with pytest.raises(BatchUnusable, match=r"step_000007\.safetensors cannot be read"):
        read_batch(tmp_path, 7)
    path = write_batch(tmp_path, SAVED)
    path.write_bytes(pickle.dumps(Malice(tmp_path / "mark")))
    with pytest.raises(BatchUnusable, match="cannot be read"):
        read_batch(tmp_path, 7)
    assert not (tmp_path / "mark").exists()

    write_batch(tmp_path, SAVED).rename(batch_path(tmp_path, 8))
    with pytest.raises(BatchUnusable, match="is not the batch of step 8 in version 2 of the format"):
        read_batch(tmp_path, 8)

    write_batch(tmp_path, SAVED)
    header = {"format": "entrain batch", "version": 2, "step": 7}
    with safetensors.safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"entrain": json.dumps(header)}))
    with pytest.raises(BatchUnusable, match="does not hold a whole batch: 'temperature'"):
        read_batch(tmp_path, 7)
    # The first version of the format did not say at which temperature the responses were drawn.
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"entrain": json.dumps(header | {"version": 1})}))
    with pytest.raises(BatchUnusable, match="is not the batch of step 7 in version 2 of the format"):
        read_batch(tmp_path, 7)

    write_batch(tmp_path, SAVED)
    with safetensors.safe_open(path, framework="np") as file:
        header, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del arrays["lengths"]
    path.write_bytes(safetensors.numpy.save(arrays, metadata=header))
    with pytest.raises(BatchUnusable, match="does not hold a whole batch"):
        read_batch(tmp_path, 7)
