"""How the settings of checkpoints go together."""

from collections.abc import Iterator

from launch.config import CheckpointConfig


def checkpoint_problems(config: CheckpointConfig) -> Iterator[str]:
    """A sentence for each setting to change. Every setting by itself is within its limits."""
    if config.keep_best and config.metric is None:
        yield f"checkpoint.metric is needed with checkpoint.keep_best = {config.keep_best}."
    if config.metric is not None and not config.keep_best:
        yield f"checkpoint.metric = {config.metric} is without effect unless checkpoint.keep_best is 1 or more."
    if config.every and config.keep_every % config.every:
        yield (
            f"checkpoint.keep_every = {config.keep_every} has to be a multiple of checkpoint.every = {config.every}: "
            "no other step has a checkpoint."
        )
    if config.every:
        return
    for setting, given in (
        ("keep_best", config.keep_best),
        ("keep_every", config.keep_every),
        ("huggingface", config.huggingface),
        ("must_save_by_s", config.must_save_by_s),
    ):
        if given:
            yield f"checkpoint.{setting} = {given} is without effect with checkpoint.every = 0: nothing is saved."
