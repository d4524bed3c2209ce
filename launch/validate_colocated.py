"""Engines and learner ranks on the same GPUs, in sentences that name the setting to change."""

from collections.abc import Iterator

from launch.config import RunConfig
from rollout.config import SYNCHRONOUS
from rollout.memory import DROPPED, KEPT_IN_HOST_MEMORY


def colocated_problems(config: RunConfig) -> Iterator[str]:
    """A sentence for each setting to change."""
    yield from _sharing(config) if config.rollout.colocated else _without_effect(config)
    if config.learner.offload_while_drawing:
        yield from _offloading(config)


def _sharing(config: RunConfig) -> Iterator[str]:
    rollout, ranks = config.rollout, config.learner.ranks
    if rollout.mode != SYNCHRONOUS:
        yield (
            f"rollout.colocated has engines sleep while the learner trains, and rollout.mode = {rollout.mode} has them "
            "draw; give rollout.mode=synchronous, or rollout.colocated=false."
        )
    if config.cluster.device == "cpu":
        yield (
            "rollout.colocated has engines and learner ranks share GPUs, and cluster.device is cpu, where engines "
            "cannot sleep; give rollout.colocated=false."
        )
    if rollout.engines > ranks:
        yield (
            f"rollout.engines = {rollout.engines} is more than learner.ranks = {ranks}, and under rollout.colocated "
            "every engine shares the GPU of a rank; lower rollout.engines or raise learner.ranks."
        )
    if rollout.tensor_parallel_size > 1:
        yield (
            f"rollout.tensor_parallel_size = {rollout.tensor_parallel_size} spreads an engine over GPUs of several "
            "ranks, and under rollout.colocated it shares that of one; give 1."
        )
    if rollout.weight_transfer == "nccl":
        yield (
            "rollout.weight_transfer = nccl takes no two processes on one GPU, and rollout.colocated has them there; "
            "give auto, ipc or host."
        )


def _without_effect(config: RunConfig) -> Iterator[str]:
    rollout = config.rollout
    if rollout.sleep_level == DROPPED:
        yield (
            f"rollout.sleep_level = {rollout.sleep_level} is without effect unless rollout.colocated=true: engines "
            f"with GPUs of their own never sleep; give {KEPT_IN_HOST_MEMORY}."
        )
    if rollout.weight_transfer == "ipc" and config.cluster.device != "cpu":
        yield (
            "rollout.weight_transfer = ipc needs engine and learner rank on one GPU, and each has its own; give auto, "
            "or rollout.colocated=true."
        )
    if config.learner.offload_while_drawing:
        yield (
            "learner.offload_while_drawing is without effect unless rollout.colocated=true: nobody else could use the "
            "memory; give false."
        )


def _offloading(config: RunConfig) -> Iterator[str]:
    learner = config.learner
    # Of the optimizers that DeepSpeed 0.19 wraps torch's AdamW in, that of stage 2 alone moves its state, and so does
    # that of stage 1 in float32.
    if learner.zero_stage != 2:
        yield (
            f"learner.offload_while_drawing needs learner.zero_stage = 2, and it is {learner.zero_stage}; give "
            "learner=zero2, or false and learner.offload_optimizer=true (zero_stage 1 or more)."
        )
    elif learner.offload_optimizer:
        yield (
            "learner.offload_while_drawing is without effect with learner.offload_optimizer, which keeps the same "
            "state in host memory all the time; give false to one of them."
        )
    if config.checkpoint.form == "deepspeed":
        yield (
            "learner.offload_while_drawing has checkpoints written while that state is in host memory, and of "
            "checkpoint.form = deepspeed nobody knows whether it can; give checkpoint.form=portable."
        )
