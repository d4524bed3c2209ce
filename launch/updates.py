"""The updates of a run: each batch is kept before it is trained on, and skipped updates have a budget."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from launch.batch_file import SavedBatch, batch_path, remove_batches, write_batch
from launch.checkpoint_folder import CHECKPOINTS, steps_in
from launch.config import RunConfig
from learner.finite import Skipped
from learner.group import LearnerGroup, Updated
from learner.types import TokenBatch

SKIPPED, IN_A_ROW = "policy/skipped_updates", "policy/skipped_in_a_row"


class TooManySkipped(FloatingPointError):
    """More updates in a row were skipped than `learner.max_skipped_updates` allows."""


class Updates:
    """Trains on the batches of one run, step after step.

    rows    of its metrics so far
    notice  told in a sentence what happened to updates that go on
    report  told in a sentence, with the exception, that a batch could not be written
    """

    def __init__(
        self,
        config: RunConfig,
        run: Path,
        learner: LearnerGroup,
        rows: Sequence[Mapping[str, float]],
        notice: Callable[[str], None],
        report: Callable[[str, BaseException], None],
    ):
        self._config, self._run, self._learner = config, run, learner
        self._in_a_row = int(rows[-1].get(IN_A_ROW, 0)) if rows else 0
        self._notice, self._report = notice, report

    def __call__(self, step: int, batch: TokenBatch, rewards: np.ndarray) -> Updated:
        """All updates of the batch of `step`; `rewards` float64 of its samples.

        Raises TooManySkipped, and WeightsNotFinite, both with a note of where the batch is.
        """
        saved = SavedBatch(step, batch, rewards)
        if self._config.output.save_batches != "none":
            self._keep(saved)
        try:
            updated = self._learner.update(batch, step - 1)
            self._count(step, updated)
        except FloatingPointError as error:
            if not batch_path(self._run, step).is_file():
                self._keep(saved)
            error.add_note(f"python -m launch.replay {self._run} step={step} trains on its batch again")
            raise
        updated.metrics[IN_A_ROW] = self._in_a_row
        return updated

    def _keep(self, saved: SavedBatch) -> None:
        try:
            write_batch(self._run, saved)
            if self._config.output.save_batches == "recent":
                # Before the oldest of the newest checkpoints there is no state that a step could be repeated from.
                steps = steps_in(self._run / CHECKPOINTS)[-self._config.checkpoint.keep_last :]
                remove_batches(self._run, 1, min(steps, default=0))
        except OSError as error:
            self._report(f"The batch of step {saved.step} was not saved ({error.strerror or error}).", error)

    def _count(self, step: int, updated: Updated) -> None:
        skipped, total = dict(updated.skipped), updated.applied + len(updated.skipped)
        most = 0
        for number in range(total):
            self._in_a_row = self._in_a_row + 1 if number in skipped else 0
            most = max(most, self._in_a_row)
        if not skipped:
            return
        limit = self._config.learner.max_skipped_updates
        if most > limit:
            raise TooManySkipped(
                f"{most} updates in a row were skipped, and learner.max_skipped_updates = {limit}; "
                f"{skip_sentence(step, updated.skipped, total)}"
            )
        self._notice(f"{skip_sentence(step, updated.skipped, total)}; weights and moments are as they were.")


def skip_sentence(step: int, skipped: Sequence[Skipped], total: int) -> str:
    """What happened to the updates of a step, without a full stop."""
    causes = [f"update {number + 1} of {total} was skipped: {cause}" for number, cause in skipped]
    return f"step {step}: {'; '.join(causes)}"


def measured(row: Mapping[str, float]) -> dict[str, float]:
    """Without the figures that a skipped update has left without a number."""
    if not row.get(SKIPPED):
        return dict(row)
    return {name: value for name, value in row.items() if math.isfinite(value)}
