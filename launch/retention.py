"""Which checkpoints of a run are kept."""

from collections.abc import Mapping

from launch.config import CheckpointConfig


def superfluous(values: Mapping[int, float | None], config: CheckpointConfig) -> list[int]:
    """Of the steps with a checkpoint those that no rule of `config` keeps, oldest first.

    values  of `config.metric` at each of these steps, None where it was not measured; of equal ones the later is better
    """
    steps = sorted(values)
    kept = set(steps[-config.keep_last :])
    if config.keep_best:
        sign = 1.0 if config.best == "max" else -1.0
        measured = [(sign * value, step) for step, value in values.items() if value is not None]
        kept |= {step for _, step in sorted(measured)[-config.keep_best :]}
    if config.keep_every:
        kept |= {step for step in steps if step % config.keep_every == 0}
    return [step for step in steps if step not in kept]
