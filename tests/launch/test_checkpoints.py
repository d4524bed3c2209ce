"""Checkpoints beside the training, with a stand-in for the learner; which are kept, and when time is up."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch import checkpoint_folder, checkpoints
from launch.checkpoint_folder import open_checkpoint, steps_in
from launch.checkpoints import Checkpoints
from launch.config import CheckpointConfig, compose
from launch.retention import superfluous
from launch.time_left import TimeLeft
from launch.validate import check
from learner.snapshots import Header

CONFIG: CheckpointConfig = compose(["output.folder=unused"]).checkpoint


class Learner:
    """Holds one weight; a snapshot of it waits at its gate while it is read."""

    def __init__(self) -> None:
        self.weight, self.gate = 0.0, threading.Event()
        self.gate.set()

    def snapshot(self, _bucket_bytes: int) -> Any:
        learner, copy = self, np.array([self.weight], np.float32)

        class Snapshot:
            header = Header({"w": (1,)}, 1, [], {"kl": 1.5}, {})
            random: dict[str, np.ndarray] = {}

            def wholes(self):
                assert learner.gate.wait(10)
                yield {"weights": {"w": copy}}

        return Snapshot()


class Saver:
    def __init__(self, folder: Path, **settings: Any):
        self.said: list[str] = []
        self.learner = Learner()
        self.folder = folder / "checkpoints"
        config = replace(CONFIG, **settings)
        self.checkpoints = Checkpoints(
            folder,
            config,
            self.learner,  # type: ignore[arg-type]
            lambda there: there.mkdir(),
            {},
            lambda sentence, _: self.said.append(sentence),
        )

    def begin(self, step: int, value: float | None = None) -> None:
        self.checkpoints.begin(step, {"step": step}, {}, value)

    def weight(self, step: int) -> float:
        [bucket] = open_checkpoint(self.folder / f"step_{step:06d}").buckets()
        return float(bucket["weights"]["w"][0])


def test_training_goes_on_while_the_copy_is_written(tmp_path):
    saver = Saver(tmp_path)
    saver.learner.gate.clear()
    saver.begin(1)
    saver.learner.weight = 9.0
    saver.checkpoints.look_after()
    assert steps_in(saver.folder) == []
    saver.learner.gate.set()
    saver.checkpoints.finish(10)
    assert saver.weight(1) == 0.0
    assert saver.checkpoints.saved_step == 1
    assert saver.checkpoints.longest_s > 0
    state = open_checkpoint(saver.folder / "step_000001").state
    assert (state["controls"], state["shapes"], state["optimizer"]["steps"]) == ({"kl": 1.5}, {"w": [1]}, 1)


def test_the_next_write_waits_for_the_one_before(tmp_path):
    saver = Saver(tmp_path, keep_last=2)
    saver.learner.gate.clear()
    saver.begin(1)
    threading.Timer(0.2, saver.learner.gate.set).start()
    saver.learner.weight = 2.0
    saver.begin(2)
    saver.checkpoints.finish(10)
    assert [saver.weight(step) for step in (1, 2)] == [0.0, 2.0]
    assert saver.said == []


def test_a_full_disk_is_said_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    saver = Saver(tmp_path)
    saver.begin(1)
    saver.checkpoints.finish(10)

    def full(_file, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_folder, "_write_through", full)
    saver.begin(2)
    saver.checkpoints.finish(10)
    assert saver.said == ["The checkpoint of step 2 was not saved (No space left on device); that of step 1 stays."]
    assert [path.name for path in saver.folder.iterdir()] == ["step_000001"]
    monkeypatch.undo()
    saver.begin(3)
    saver.checkpoints.finish(10)
    assert steps_in(saver.folder) == [3]
    assert len(saver.said) == 1


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    def read_only(_folder, _step):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(checkpoints, "partial_folder", read_only)
    saver = Saver(tmp_path)
    saver.begin(2)
    assert saver.said == ["The checkpoint of step 2 was not saved (Read-only file system); none is on disk."]


def test_a_write_past_its_deadline_is_given_up(tmp_path):
    saver = Saver(tmp_path, write_deadline_s=0.1)
    saver.learner.gate.clear()
    saver.begin(1)
    saver.checkpoints.finish(10)
    assert saver.said == ["The checkpoint of step 1 was not saved (it was not on disk after 0 s); none is on disk."]
    saver.learner.gate.set()
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(10)
    assert steps_in(saver.folder) == []


def test_the_hugging_face_folder_is_part_of_it(tmp_path):
    saver = Saver(tmp_path, huggingface=True)
    saver.begin(1)
    saver.checkpoints.finish(10)
    assert (saver.folder / "step_000001" / "huggingface").is_dir()


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({"keep_last": 1}, [10, 20, 30, 40]),
        ({"keep_last": 3}, [10, 20]),
        ({"keep_last": 1, "keep_every": 20}, [10, 30]),
        ({"keep_last": 1, "keep_best": 1, "best": "max"}, [10, 30, 40]),
        ({"keep_last": 1, "keep_best": 2, "best": "max"}, [30, 40]),
        ({"keep_last": 1, "keep_best": 1, "best": "min"}, [10, 20, 30]),
        ({"keep_last": 9}, []),
    ],
)
def test_retention_by_hand(settings, gone):
    values = {10: 0.7, 20: 0.9, 30: None, 40: 0.1, 50: 0.5}
    assert superfluous(values, replace(CONFIG, **settings)) == gone


def test_of_equal_values_the_later_is_better():
    assert superfluous({1: 0.5, 2: 0.5, 3: 0.1}, replace(CONFIG, keep_last=1, keep_best=1)) == [1]
    assert superfluous({1: 0.5, 2: 0.5, 3: 0.9}, replace(CONFIG, keep_last=1, keep_best=1, best="min")) == [1]


def test_only_the_newest_is_kept_by_default(tmp_path):
    saver = Saver(tmp_path)
    for step in (1, 2, 3):
        saver.begin(step)
    saver.checkpoints.finish(10)
    assert steps_in(saver.folder) == [3]


def test_time_is_up_when_the_longest_step_and_a_save_would_not_fit():
    now = [100.0]
    left = TimeLeft(60.0, began=90.0, clock=lambda: now[0])
    answers = []
    for at in (110.0, 130.0, 135.0):  # steps of 10, 20 and 5 s; it ends at 150
        now[0] = at
        answers.append(left.too_short(saving_s=1.0))
    assert answers == [False, True, True]
    assert not TimeLeft(None, 0.0).too_short(1e9)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["checkpoint.keep_best=2"], "checkpoint.metric is needed with checkpoint.keep_best = 2."),
        (["checkpoint.metric=entropy"], "checkpoint.metric = entropy is without effect unless"),
        (["checkpoint.keep_every=15"], "checkpoint.keep_every = 15 has to be a multiple of checkpoint.every = 10"),
        (["checkpoint.every=0", "checkpoint.must_save_by_s=9"], "checkpoint.must_save_by_s = 9.0 is without effect"),
        (["checkpoint.keep_last=0"], "checkpoint.keep_last = 0 has to be at least 1."),
        (["checkpoint.best=most"], "checkpoint.best = most is not one of max, min."),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, sentence):
    [problem] = check(compose(["output.folder=unused", *overrides]))
    assert problem.startswith(sentence)
