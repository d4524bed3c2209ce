"""The modes of rollouts on the real graph, from `launch.train`."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest

from launch.config import compose
from launch.run_folder import read_metrics
from launch.train import train

SMALL = (
    "output.display=lines",
    "rollout.engines=2",
    # Other tests may keep the machine busy meanwhile.
    "rollout.start_timeout_s=600",
    "learner.start_timeout_s=600",
    "rollout.prompts_per_step=8",
    "rollout.samples_per_prompt=4",
    "off_policy=updates2",
    "data.evaluation.heldout.rows=8",
    "data.evaluation.out_of_domain.rows=8",
    "evaluation.samples_per_prompt=1",
    "evaluation.every=0",
    "output.save_model=false",
)
TIMINGS = ("time/", "speed/", "memory/")


def run(folder: Path, *overrides: str) -> list[dict[str, float]]:
    """The metrics of the steps, but for the timings."""
    train(compose([f"output.folder={folder}", *SMALL, *overrides]))
    return [{k: v for k, v in row.items() if not k.startswith(TIMINGS)} for row in read_metrics(folder)]


def records(folder: Path, step: int) -> list[dict]:
    return pyarrow.parquet.read_table(folder / "rollouts" / f"step_{step:06d}.parquet").to_pylist()


@pytest.mark.slow
def test_asynchronously_without_staleness_a_run_is_the_synchronous_one(tmp_path, ray_session):
    steps = "steps=3"
    assert run(tmp_path / "a", steps, "rollout.mode=asynchronous") == run(tmp_path / "b", steps)


def test_asynchronously_every_response_is_trained_once_by_weights_that_are_not_too_old(tmp_path, ray_session):
    """One sequence at a time, so that weights change while many are drawn."""
    rows = run(
        tmp_path,
        "steps=5",
        "rollout.mode=asynchronous",
        "off_policy.max_staleness=2",
        "correction=tis",
        "rollout.max_sequences=4",
        "rollout.filter.no_signal=true",
        "checkpoint.every=5",
    )
    assert len(rows) == 6
    seen: Counter = Counter()
    versions: Counter = Counter()
    for row in rows[1:]:
        step = int(row["step"])
        assert row["staleness/max"] <= 2
        assert row["staleness/late_share"] == 0
        assert row["sync/canary_abs_mean"] < 1e-4
        found = records(tmp_path, step)
        assert len(found) == 32
        for record in found:
            seen[record["uid"], record["sample"]] += 1
            assert step - 3 <= record["first_weight_version"] <= record["weight_version"] <= step - 1
            versions[record["weight_version"] - record["first_weight_version"]] += 1
        scores = [{record["score"] for record in found[start : start + 4]} for start in range(0, 32, 4)]
        assert all(len(of_group) > 1 for of_group in scores)
    assert set(seen.values()) == {1}
    assert versions[1] + versions[2] > 0
    state = json.loads((tmp_path / "checkpoints/step_000005/state.json").read_text())
    stream, difficulty = state["rollout"]["stream"], state["rollout"]["difficulty"]["records"]
    assert stream["taken"] == 5
    dropped = sum(row["groups/dropped"] for row in rows[1:])
    assert dropped > 0
    assert len(difficulty) == sum(drawn for drawn, _ in difficulty.values()) >= 5 * 8 + dropped


@pytest.mark.slow
def test_one_step_off_a_run_that_goes_on_with_a_batch_in_the_buffer_is_the_run_that_was_not_broken_off(
    tmp_path, ray_session
):
    mode = ("rollout.mode=one_step_off", "off_policy.max_staleness=1", "rollout.filter.no_signal=true")
    straight = run(tmp_path / "straight", "steps=5", *mode)
    assert [row["staleness/max"] for row in straight[1:]] == [0, 1, 1, 1, 1]
    folder = tmp_path / "broken"
    run(folder, "steps=5", "checkpoint.every=2", "checkpoint.keep_last=5", *mode)
    # As a death after step 2 would leave it.
    for path in (folder / "checkpoints").iterdir():
        if path.name != "step_000002":
            path.rename(folder / path.name)
    (folder / "summary.json").unlink()
    state = json.loads((folder / "checkpoints/step_000002/state.json").read_text())
    assert len(state["rollout"]["kept"]) == 8
    again = run(folder, "steps=5", "checkpoint.every=2", *mode)
    assert again == straight
    for step in range(1, 6):
        assert records(folder, step) == records(tmp_path / "straight", step)
