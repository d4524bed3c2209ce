"""Writing checkpoints beside the training: what is copied at a step's end goes to disk on a thread of its own."""

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from launch.checkpoint_folder import (
    CHECKPOINTS,
    HUGGINGFACE,
    NATIVE,
    Abandoned,
    partial_folder,
    remove,
    steps_in,
    write,
)
from launch.config import CheckpointConfig
from launch.retention import superfluous
from learner.group import LearnerGroup
from learner.snapshots import Snapshot

# Of whole parameters with their moments: what the driver holds of a checkpoint while it writes, and the size of a file.
BUCKET_BYTES = 1 << 30


@dataclass
class _Write:
    """One checkpoint on its way to disk."""

    step: int
    began: float
    done: threading.Event = field(default_factory=threading.Event)
    abandoned: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Checkpoints:
    """The checkpoints of one run. At most one is being written at a time.

    save_huggingface  writes the model into the folder it is given
    values            `config.metric` of the steps before, by step
    report            told in a sentence, with the exception, what became of a write that failed

    saved_step  of the newest checkpoint that is on disk, None where there is none
    longest_s   the longest time that one took, the copying included
    """

    def __init__(
        self,
        folder: Path,
        config: CheckpointConfig,
        learner: LearnerGroup,
        save_huggingface: Callable[[Path], None],
        values: Mapping[int, float | None],
        report: Callable[[str, BaseException], None],
    ):
        self._folder, self._config, self._learner = folder / CHECKPOINTS, config, learner
        self._save_huggingface, self._report = save_huggingface, report
        self._values = dict(values)
        self._write: _Write | None = None
        self.saved_step = max(steps_in(self._folder), default=None)
        self.longest_s = 0.0

    def begin(
        self, step: int, state: Mapping[str, Any], rollouts: Mapping[str, np.ndarray], value: float | None
    ) -> None:
        """Copy what the learner holds, and begin to write it together with `state` and the tokens of responses that
        wait for their batch, `rollouts`; `value` is that of the metric.

        Waits for the write before, where there is one. A write that fails is reported when it is looked after next.
        """
        self.finish(self._config.write_deadline_s)
        attempt = _Write(step, time.monotonic())
        try:
            partial = partial_folder(self._folder, step)
            if self._config.huggingface:
                self._save_huggingface(partial / HUGGINGFACE)
            if self._config.form == "deepspeed":
                snapshot = self._learner.snapshot_native(partial / NATIVE)
            else:
                snapshot = self._learner.snapshot(BUCKET_BYTES)
        except OSError as error:
            self._failed(attempt, error)
            return
        self._values[step] = value
        self._write = attempt
        # A daemon, so that a disk which never answers does not keep the process alive.
        threading.Thread(
            target=self._run,
            args=(attempt, partial, dict(state), dict(rollouts), snapshot),
            name="checkpoint",
            daemon=True,
        ).start()

    def look_after(self) -> None:
        """Report on the write if it has ended, or has taken too long."""
        if self._write and (self._write.done.is_set() or self._left_s(self._write) <= 0):
            self._close(self._write)

    def finish(self, limit_s: float) -> None:
        """Wait for the write, if there is one, `limit_s` at most; one that has not ended then is given up."""
        if self._write:
            self._write.done.wait(max(0.0, min(limit_s, self._left_s(self._write))))
            self._close(self._write)

    def _close(self, attempt: _Write) -> None:
        self._write = None
        if not attempt.done.is_set():
            attempt.abandoned.set()
            took = time.monotonic() - attempt.began
            attempt.error = TimeoutError(f"it was not on disk after {took:.0f} s")
        if attempt.error:
            self._failed(attempt, attempt.error)

    def _left_s(self, attempt: _Write) -> float:
        return attempt.began + self._config.write_deadline_s - time.monotonic()

    def _run(
        self,
        attempt: _Write,
        partial: Path,
        state: dict[str, Any],
        rollouts: dict[str, np.ndarray],
        snapshot: Snapshot,
    ) -> None:
        try:
            header = snapshot.header
            state["controls"] = header.controls
            state["optimizer"] = {"steps": header.steps, "moments": header.moments}
            state["shapes"] = {name: list(shape) for name, shape in header.shapes.items()}
            write(partial, attempt.step, state, snapshot.random, rollouts, snapshot.wholes(), attempt.abandoned.is_set)
            self.saved_step = attempt.step
            self.longest_s = max(self.longest_s, time.monotonic() - attempt.began)
            # Only now: until the new one is whole, the old ones are all there is.
            known = {step: self._values.get(step) for step in steps_in(self._folder)}
            for step in superfluous(known, self._config):
                remove(self._folder, step)
        except Abandoned:
            pass
        except Exception as error:  # noqa: BLE001  it is raised nowhere: the thread that trains reports it
            attempt.error = error
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            attempt.done.set()

    def _failed(self, attempt: _Write, error: BaseException) -> None:
        kept = "none is on disk" if self.saved_step is None else f"that of step {self.saved_step} stays"
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"{error}"
        self._report(f"The checkpoint of step {attempt.step} was not saved ({why}); {kept}.", error)
