"""A run that goes on by itself after the loss of actors that hold its state."""

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from launch.checkpoint_folder import CHECKPOINTS, steps_in
from launch.config import RunConfig
from launch.entry import RunFailed
from launch.resume import AUTO
from launch.run_folder import RunFolder, read_metrics
from learner.group import LearnerFailed
from learner.reference import ReferenceFailed

# Engines and reward workers hold no state and are replaced where they are. These take the run with them.
LOSSES = (LearnerFailed, ReferenceFailed)
# Pause before a run is started again without a further step between; it doubles each time.
BACK_OFF_S = 2.0


def lasting(train: Callable[[RunConfig], Any]) -> Callable[[RunConfig], Any]:
    """`train`, called again after each of `LOSSES` to go on from the newest checkpoint, or from the beginning where
    there is none yet.

    Everything is ended and started anew, so that this is what `resume` does after the death of the driver. Raises
    RunFailed where `checkpoint.restarts` are used up, or nothing is saved.
    """

    @wraps(train)
    def again(config: RunConfig) -> Any:
        restarts, used, furthest = config.checkpoint.restarts, 0, -1.0
        while True:
            try:
                return train(config)
            except RunFailed as failure:
                if not (isinstance(failure.__cause__, LOSSES) and restarts and config.checkpoint.every):
                    raise
                folder = RunFolder(config.output.folder)
                reached = max((row["step"] for row in read_metrics(folder)), default=-1.0)
                used, furthest = (0 if reached > furthest else used), max(furthest, reached)
                if used == restarts:
                    raise RunFailed(
                        f"{failure}\nafter {restarts} restarts without a further step (checkpoint.restarts)"
                    ) from failure.__cause__
                used += 1
                if not steps_in(folder.path / CHECKPOINTS):
                    folder.rewind(-1)
                sentence = str(failure).splitlines()[0]
                print(f"{sentence}\nThe run starts again ({used} of checkpoint.restarts = {restarts}).", flush=True)
            # The graph that ended hangs on its failure, and both in cycles; the next one is built beside what is left.
            gc.collect()
            if used > 1:
                time.sleep(BACK_OFF_S * 2 ** (used - 2))
            # What is there now this run has written, or has been told to read.
            config = replace(config, resume=AUTO, resume_unpickle=True)

    return again
