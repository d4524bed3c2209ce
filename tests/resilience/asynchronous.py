"""A run in asynchronous mode on two engines, and what it may neither lose nor double."""

import re
from pathlib import Path

import pyarrow.parquet

from launch.config import compose
from launch.prepare import prepare
from tests.resilience import runs

# Few sequences at a time, so that engines are drawing whenever something befalls them.
SETTINGS = (
    "rollout.mode=asynchronous",
    # Rollouts have begun before it could decide about them.
    "entropy.temperature=null",
    "off_policy.max_staleness=1",
    "correction=tis",
    "rollout.engines=2",
    "rollout.max_sequences=4",
    "rollout.stall_s=15",
    "rollout.sync_timeout_s=20",
)

DIED = re.compile(r"engine \d died: .* started anew; requests that were lost are issued once more\.")
# Where weights are due before the engine has been silent for long enough, it is their transfer that finds it.
HUNG = re.compile(r"engine \d (hung|did not answer in).* started anew; requests that were lost are issued once more\.")


def trained(folder: Path, steps: int) -> list[tuple[str, int]]:
    """Prompt and sample of every response that was trained on, step after step."""
    tables = [
        pyarrow.parquet.read_table(folder / "rollouts" / f"step_{step:06d}.parquet") for step in range(1, steps + 1)
    ]
    return [(row["uid"], row["sample"]) for table in tables for row in table.to_pylist()]


def handed_out(steps: int) -> list[tuple[str, int]]:
    """Prompt and sample of every response of the first steps, as the source of the prompts hands them out."""
    config = compose(["output.folder=unused", *runs.SETTINGS, *SETTINGS])
    source, samples = prepare(config).train, range(config.rollout.samples_per_prompt)
    return [(prompt.uid, sample) for _ in range(steps) for prompt in source.next() for sample in samples]


def nothing_lost_or_doubled(folder: Path, steps: int) -> str:
    """Asserts that the run trained once on each response of the prompts that its steps have, in words."""
    found, wanted = trained(folder, steps), handed_out(steps)
    assert len(set(found)) == len(found), "a response was trained on twice"
    assert sorted(found) == sorted(wanted), "other responses than those of the prompts that were handed out"
    stream = runs.state(folder, steps)["rollout"]["stream"]
    assert (stream["taken"], stream["kept"], stream["again"]) == (steps, [], [])
    return f"nothing: each of the {len(found)} responses of its prompts was trained on once"
