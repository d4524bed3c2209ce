"""Which state and which batches a step is trained on again from, and when two updates are the same."""

import json
import math

import numpy as np
import pytest

from launch.batch_file import SavedBatch, write_batch
from launch.checkpoint_folder import open_checkpoint, partial_folder, write
from launch.replay import ReplayRefused, find, main, table
from launch.same_update import Figure, Gap, Recorded, figures, gap
from tests.launch.test_batch_file import BATCH

WEIGHTS = {"w": np.array([1.0, 2.0], np.float32), "v": np.array([3.0], np.float32)}
MOMENTS = {"w": np.array([0.1, 0.2], np.float32), "v": np.array([0.3], np.float32)}


def checkpoint(run, step: int, weights=WEIGHTS) -> None:
    state = {"optimizer": {"steps": step, "moments": ["exp_avg"]}, "shapes": {"w": [2], "v": [1]}, "controls": {}}
    # One parameter in each bucket, as in large models.
    buckets = [{"weights": {n: weights[n]}, "exp_avg": {n: MOMENTS[n]}} for n in weights]
    write(partial_folder(run / "checkpoints", step), step, state, {}, {}, buckets, lambda: False)


def batches(run, *steps: int) -> None:
    for step in steps:
        write_batch(run, SavedBatch(step, BATCH, np.zeros(2)))


@pytest.fixture
def run(tmp_path):
    rows = [{"step": step, "policy/loss": step / 10} for step in range(8)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_step_is_reached_from_the_newest_checkpoint_before_it(run):
    batches(run, 1, 2, 5, 6, 7)
    checkpoint(run, 4)
    checkpoint(run, 6)
    found = find(run, 7)
    assert (found.before.step, found.steps, found.reached, found.recorded["policy/loss"]) == (6, [7], None, 0.7)
    found = find(run, 6)
    assert (found.before.step, found.steps, found.reached.step) == (4, [5, 6], 6)
    found = find(run, 2)
    assert (found.before, found.steps, found.reached) == (None, [1, 2], None)
    assert find(run, 7).recorded["step"] == 7


def test_a_damaged_checkpoint_is_passed_over(run):
    batches(run, 1, 2, 3)
    checkpoint(run, 1)
    checkpoint(run, 2)
    (run / "checkpoints" / "step_000002" / "state.json").unlink()
    assert (find(run, 3).before.step, find(run, 3).steps) == (1, [2, 3])
    (run / "batches" / "step_000002.safetensors").unlink()
    with pytest.raises(
        ReplayRefused, match=r"lacks 2: output\.save_batches=all .* The checkpoint of step 2 is damaged"
    ):
        find(run, 3)


def test_what_is_missing_is_said_in_a_sentence(run):
    checkpoint(run, 4)
    batches(run, 6)
    with pytest.raises(ReplayRefused) as error:
        find(run, 7)
    assert str(error.value) == (
        f"step 7 is reached from the checkpoint of step 4 over the batches of steps 5 to 7, and {run} lacks 5, 7: "
        "output.save_batches=all keeps every batch, and a smaller checkpoint.every with a larger checkpoint.keep_last "
        "more states."
    )
    with pytest.raises(ReplayRefused, match="from the model that the run began with over the batches of steps 1 to 3"):
        find(run, 3)


def test_the_command_line_refuses_in_words(tmp_path, capsys):
    assert main([str(tmp_path), "step=3"]) == 2
    assert "config.yaml cannot be read" in capsys.readouterr().err
    for wrong in ("7", "step=0", "step=x", "steps=3"):
        with pytest.raises(SystemExit) as end:
            main([str(tmp_path), wrong])
        assert end.value.code == 2
        assert f"{wrong} is not step=N" in capsys.readouterr().err


def test_figures_of_the_update_are_compared_and_times_are_not():
    recorded = {"step": 7, "policy/loss": 0.5, "policy/lost": 1.0, "time/update_s": 3.0, "reward/mean": 0.1}
    again = {"policy/loss": 0.5, "clip_cov/share": 0.25, "speed/mfu": 0.1, "learner/passes": 3, "memory/peak": 9}
    found = figures(recorded, again, ["policy"])
    assert found == [
        Figure("policy/loss", 0.5, 0.5),
        Figure("clip_cov/share", None, 0.25),
        Figure("policy/lost", 1.0, None),
    ]
    assert [figure.equal for figure in found] == [True, False, False]
    assert [figure.close("float32") for figure in found] == [True, False, False]
    lines = table(found).splitlines()
    assert lines[0].split() == ["metric", "recorded", "again", "difference"]
    assert lines[1].split() == ["policy/loss", "0.5", "0.5", "0"]
    assert lines[2].split() == ["clip_cov/share", "-", "0.25", "-"]


def test_round_off_is_small_against_the_figure_or_small():
    assert Figure("a", 1.0, 1.001).close("float32")
    assert not Figure("a", 1.0, 1.01).close("float32")
    assert Figure("a", 1.0, 1.01).close("bfloat16")
    assert Figure("a", 0.0, 1e-4).close("float32")
    assert not Figure("a", 0.0, 1e-3).close("float32")


def test_states_are_compared_bit_for_bit_and_by_how_far_they_moved(run):
    checkpoint(run, 4)
    recorded = Recorded(open_checkpoint(run / "checkpoints" / "step_000004"))
    start = {"w": WEIGHTS["w"] - 0.3, "v": WEIGHTS["v"] + 0.4}
    same = gap(recorded, [{"weights": start}], [{"weights": WEIGHTS, "exp_avg": MOMENTS}])
    assert (same.equal, same.largest, same.distance) == (True, 0.0, 0.0)
    assert same.moved == pytest.approx(0.09 + 0.09 + 0.16, rel=1e-5)

    other = gap(recorded, [{"weights": start}], [{"weights": WEIGHTS, "exp_avg": MOMENTS | {"v": MOMENTS["v"] * 2}}])
    assert (other.equal, other.distance, other.close("float32")) == (False, 0.0, True)

    near = WEIGHTS | {"v": WEIGHTS["v"] + np.float32(2**-12)}
    close = gap(recorded, [{"weights": start}], [{"weights": near, "exp_avg": MOMENTS}])
    assert (close.equal, close.largest, close.distance) == (False, 2**-12, 2**-24)
    assert close.close("float32")
    far = gap(recorded, [{"weights": start}], [{"weights": start, "exp_avg": MOMENTS}])
    assert not far.close("bfloat16")
    assert not Gap(equal=False, distance=math.nan, moved=1.0).close("float32")


def test_a_parameter_that_the_checkpoint_lacks_is_no_small_difference(run):
    checkpoint(run, 4, {"w": WEIGHTS["w"]})
    recorded = Recorded(open_checkpoint(run / "checkpoints" / "step_000004"))
    found = gap(recorded, [], [{"weights": WEIGHTS}])
    assert not found.equal
