"""`python -m tests.resilience.not_finite_run FOLDER [overrides]`: a real run whose advantages become NaN.

In step 2 those of one of its two updates, which is skipped; in step 4 all of them, which is more than is allowed.
"""

import sys
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from launch import train
from launch.entry import hydra_entry

SETTINGS = (
    "output.display=lines",
    "output.save_batches=none",
    "cluster.kind=local",
    "rollout.engines=1",
    "rollout.prompts_per_step=8",
    "off_policy=updates2",
    "learner.ranks=2",
    "learner.max_skipped_updates=1",
    "data.evaluation.heldout.rows=8",
    "data.evaluation.out_of_domain.rows=8",
    "evaluation.samples_per_prompt=1",
    # Slow machines may take their time.
    "rollout.start_timeout_s=500",
    "learner.start_timeout_s=500",
    "checkpoint.every=1",
    "checkpoint.keep_last=2",
    "steps=6",
)


def spoil(step: int, advantages: np.ndarray, response_lengths: np.ndarray) -> np.ndarray:
    """What the run sees instead of `advantages` float32 [response tokens]."""
    if step == 2:
        return np.where(np.arange(advantages.size) < response_lengths[0], np.float32("nan"), advantages)
    return np.full_like(advantages, np.nan) if step == 4 else advantages


def main(folder: str, *overrides: str) -> None:
    whole, steps = train.add_advantages, count(1)

    def spoilt(*arguments: Any) -> Any:
        trainable = whole(*arguments)
        batch = trainable.batch
        assert batch.advantages is not None
        wrong = spoil(next(steps), batch.advantages, batch.response_lengths)
        return replace(trainable, batch=replace(batch, advantages=wrong))

    train.add_advantages = spoilt
    sys.argv = ["train", f"output.folder={folder}", *SETTINGS, *overrides]
    hydra_entry(train.main)


if __name__ == "__main__":
    main(*sys.argv[1:])
