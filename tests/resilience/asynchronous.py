"""A run in asynchronous mode on two engines, and what it may neither lose nor double."""

import re
from pathlib import Path

import pyarrow.parquet

from tests.resilience.runs import state

# Few sequences at a time, so that engines are drawing whenever something befalls them.
SETTINGS = (
    "rollout.mode=asynchronous",
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


def nothing_lost_or_doubled(folder: Path, straight: Path, steps: int) -> str:
    """Asserts that the run trained on each group once, on those of `straight`, whatever their order; in words."""
    found, wanted = trained(folder, steps), trained(straight, steps)
    assert len(set(found)) == len(found), "a response was trained on twice"
    assert sorted(found) == sorted(wanted), "other groups than in the synchronous run"
    stream = state(folder, steps)["rollout"]["stream"]
    assert (stream["taken"], stream["kept"], stream["again"]) == (steps, [], [])
    return f"nothing: each of the {len(found)} responses that a synchronous run draws was trained on once"
