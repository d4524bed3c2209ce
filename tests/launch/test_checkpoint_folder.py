"""A checkpoint is there whole or not at all, and says what is wrong with it."""

import json
from pathlib import Path

import numpy as np
import pytest

from launch.checkpoint_folder import (
    Abandoned,
    CheckpointDamaged,
    clear_leftovers,
    newest,
    open_checkpoint,
    partial_folder,
    remove,
    steps_in,
    write,
)

BUCKETS = [
    {
        "weights": {"a": np.arange(6, dtype=np.float32).reshape(2, 3)},
        "exp_avg": {"a": np.full((2, 3), 0.5, np.float32)},
    },
    {"weights": {"b": np.array([7.0], np.float32)}, "exp_avg": {"b": np.array([-1.0], np.float32)}},
]
RANDOM = {"0.cpu": np.array([1, 2, 255], np.uint8)}
ROLLOUTS = {"logprobs": np.array([-0.1, -2.5], np.float32)}
STATE = {"controls": {"kl": 0.1}, "optimizer": {"steps": 3, "moments": ["exp_avg"]}}


def saved(folder: Path, step: int = 12) -> Path:
    return write(partial_folder(folder, step), step, STATE, RANDOM, ROLLOUTS, BUCKETS, lambda: False)


def test_what_is_written_comes_back_bit_for_bit(tmp_path):
    partial = partial_folder(tmp_path, 12)
    (partial / "huggingface").mkdir()
    (partial / "huggingface" / "config.json").write_text("{}")
    path = write(partial, 12, STATE, RANDOM, ROLLOUTS, BUCKETS, lambda: False)
    assert path == tmp_path / "step_000012"
    assert [each.name for each in tmp_path.iterdir()] == ["step_000012"]
    found = open_checkpoint(path)
    assert (found.step, found.state["controls"]) == (12, {"kl": 0.1})
    assert found.rollouts()["logprobs"].tolist() == ROLLOUTS["logprobs"].tolist()
    assert found.state["optimizer"] == {"steps": 3, "moments": ["exp_avg"], "buckets": 2}
    np.testing.assert_array_equal(found.random()["0.cpu"], RANDOM["0.cpu"])
    for got, wanted in zip(found.buckets(), BUCKETS, strict=True):
        assert got.keys() == wanted.keys()
        for kind in wanted:
            for name, value in wanted[kind].items():
                np.testing.assert_array_equal(got[kind][name], value)
    assert "huggingface/config.json" in found.files


@pytest.mark.parametrize("name", ["weights-00002.safetensors", "random.safetensors", "state.json"])
def test_every_damage_is_found(tmp_path, name):
    file = saved(tmp_path) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(CheckpointDamaged, match=f"{name} has {len(whole) - 1} bytes instead of {len(whole)}"):
        open_checkpoint(file.parent)
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(CheckpointDamaged, match=f"{name} is not what was written"):
        open_checkpoint(file.parent)
    file.unlink()
    with pytest.raises(CheckpointDamaged, match=f"{name} is missing"):
        open_checkpoint(file.parent)


def test_a_manifest_that_cannot_be_read_or_is_of_another_version_is_damage(tmp_path):
    manifest = saved(tmp_path) / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"version": 1}))
    with pytest.raises(CheckpointDamaged, match="version 1 of the format, and this code reads 3"):
        open_checkpoint(manifest.parent)
    manifest.write_text(json.dumps({"step": 12}))
    with pytest.raises(CheckpointDamaged, match="is not that of a checkpoint"):
        open_checkpoint(manifest.parent)
    for text in ("{", "[]"):
        manifest.write_text(text)
        with pytest.raises(CheckpointDamaged, match=r"manifest\.json (cannot be read|holds no object)"):
            open_checkpoint(manifest.parent)


def test_the_newest_whole_one_is_found_and_leftovers_go(tmp_path):
    assert newest(tmp_path / "none") == (None, [])
    for step in (2, 10, 1_000_000):
        saved(tmp_path, step)
    partial_folder(tmp_path, 11)
    assert steps_in(tmp_path) == [2, 10, 1_000_000]
    (tmp_path / "step_1000000" / "state.json").unlink()
    found, sentences = newest(tmp_path)
    assert found is not None
    assert found.step == 10
    assert sentences == ["The checkpoint of step 1000000 is damaged: state.json is missing."]
    clear_leftovers(tmp_path, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000002", "step_000010", "step_1000000.damaged"]
    assert steps_in(tmp_path) == [2, 10]
    remove(tmp_path, 2)
    assert steps_in(tmp_path) == [10]


def test_a_write_that_nobody_waits_for_or_that_fails_leaves_no_checkpoint(tmp_path):
    asked = iter([False, False, True])
    with pytest.raises(Abandoned):
        write(partial_folder(tmp_path, 3), 3, STATE, RANDOM, ROLLOUTS, BUCKETS, lambda: next(asked))
    assert steps_in(tmp_path) == []
