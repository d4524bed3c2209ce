"""The budget of skipped updates, and which batches are on disk; the learner is a stand-in."""

import math

import numpy as np
import pytest

from launch.batch_file import read_batch, steps_saved
from launch.updates import TooManySkipped, Updates, measured
from learner.finite import GRADIENT, LOSS, Skipped, WeightsNotFinite, first_causes
from learner.group import Updated
from tests.composed import compose
from tests.launch.test_batch_file import BATCH, SAVED


class Learner:
    """Makes four updates of each batch, of which it skips those given for the step."""

    def __init__(self, skips: dict[int, list[int]], breaks_at: int = 0):
        self.skips, self.breaks_at = skips, breaks_at

    def update(self, batch, step):
        if step + 1 == self.breaks_at:
            raise WeightsNotFinite("weights of w are not finite")
        skipped = [Skipped(number, LOSS) for number in self.skips.get(step + 1, [])]
        return Updated({"policy/skipped_updates": len(skipped)}, None, None, 4 - len(skipped), skipped)


def updates(tmp_path, learner, *overrides, rows=()):
    config = compose(["output.folder=unused", *overrides])
    said: list[str] = []
    return Updates(config, tmp_path, learner, list(rows), said.append, lambda sentence, _: said.append(sentence)), said


def test_skipped_updates_are_counted_and_said_and_more_in_a_row_than_allowed_end_the_run(tmp_path):
    train, said = updates(tmp_path, Learner({1: [0, 1, 3], 2: [0], 3: [0, 2], 4: [1, 2, 3]}))
    assert train(1, BATCH, SAVED.rewards).metrics == {"policy/skipped_updates": 3, "policy/skipped_in_a_row": 1}
    assert said == [
        "step 1: update 1 of 4 was skipped: its loss is not finite; update 2 of 4 was skipped: its loss is not finite; "
        "update 4 of 4 was skipped: its loss is not finite; weights and moments are as they were."
    ]
    # The last of step 1 and the first of step 2 are two in a row, which is as many as may be.
    assert train(2, BATCH, SAVED.rewards).metrics["policy/skipped_in_a_row"] == 0
    assert train(3, BATCH, SAVED.rewards).metrics["policy/skipped_in_a_row"] == 0
    with pytest.raises(
        TooManySkipped, match=r"^3 updates in a row .* learner.max_skipped_updates = 2; step 4"
    ) as error:
        train(4, BATCH, SAVED.rewards)
    assert error.value.__notes__ == [f"python -m launch.replay {tmp_path} step=4 trains on its batch again"]


def test_a_row_of_skipped_updates_goes_on_over_a_resume_and_none_may_be_allowed(tmp_path):
    rows = [{"step": 1, "policy/skipped_in_a_row": 2}]
    train, _ = updates(tmp_path, Learner({2: [0]}), rows=rows)
    with pytest.raises(TooManySkipped, match="3 updates in a row"):
        train(2, BATCH, SAVED.rewards)
    train, _ = updates(tmp_path, Learner({1: [2]}), "learner.max_skipped_updates=0")
    with pytest.raises(TooManySkipped, match="1 updates in a row"):
        train(1, BATCH, SAVED.rewards)


@pytest.mark.parametrize("learner", [Learner({2: [0, 1, 2]}), Learner({}, breaks_at=2)])
def test_the_batch_that_ends_a_run_is_on_disk_even_where_none_is_kept(tmp_path, learner):
    train, _ = updates(tmp_path, learner, "output.save_batches=none")
    train(1, BATCH, SAVED.rewards)
    assert steps_saved(tmp_path) == []
    with pytest.raises(FloatingPointError):
        train(2, BATCH, SAVED.rewards)
    assert steps_saved(tmp_path) == [2]
    assert np.isnan(read_batch(tmp_path, 2).batch.advantages[1])


def test_recent_batches_are_those_that_a_kept_checkpoint_leads_to(tmp_path):
    train, _ = updates(tmp_path, Learner({}), "checkpoint.keep_last=2")
    everything, _ = updates(tmp_path / "all", Learner({}), "output.save_batches=all")
    (tmp_path / "all").mkdir()
    for step in range(1, 8):
        train(step, BATCH, SAVED.rewards)
        everything(step, BATCH, SAVED.rewards)
        if step % 2 == 0:
            (tmp_path / "checkpoints" / f"step_{step:06d}").mkdir(parents=True)
            (tmp_path / "all" / "checkpoints" / f"step_{step:06d}").mkdir(parents=True)
    assert steps_saved(tmp_path) == [5, 6, 7]
    assert steps_saved(tmp_path / "all") == list(range(1, 8))


def test_a_batch_that_cannot_be_written_is_said_and_the_step_is_made(tmp_path):
    (tmp_path / "batches").touch()
    train, said = updates(tmp_path, Learner({}))
    assert train(1, BATCH, SAVED.rewards).applied == 4
    assert said == ["The batch of step 1 was not saved (File exists)."]


def test_only_a_step_with_skipped_updates_may_lack_figures():
    row = {"policy/skipped_updates": 1, "entropy/token_mean": math.nan, "reward/mean": 0.5}
    assert measured(row) == {"policy/skipped_updates": 1, "reward/mean": 0.5}
    assert math.isnan(measured(row | {"policy/skipped_updates": 0})["entropy/token_mean"])


def test_the_cause_is_the_first_that_any_rank_saw():
    assert first_causes([{0: GRADIENT, 2: GRADIENT}, {0: LOSS, 2: GRADIENT}]) == [
        Skipped(0, LOSS),
        Skipped(2, GRADIENT),
    ]
    assert first_causes([{}, {}]) == []
