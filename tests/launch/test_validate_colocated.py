"""Sharing GPUs is refused in words where it cannot be, and where nothing of it would have an effect."""

import pytest

from launch.validate import check
from tests.composed import compose

CUDA = "cluster.device=cuda "
SHARED = CUDA + "rollout.colocated=true "


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            SHARED + "rollout.mode=one_step_off off_policy.max_staleness=1",
            "rollout.colocated has engines sleep while the learner trains, and rollout.mode = one_step_off has them "
            "draw; give rollout.mode=synchronous, or rollout.colocated=false.",
        ),
        (
            "rollout.colocated=true cluster.device=cpu",
            "rollout.colocated has engines and learner ranks share GPUs, and cluster.device is cpu, where engines "
            "cannot sleep; give rollout.colocated=false.",
        ),
        (
            SHARED + "rollout.engines=3 learner.ranks=2",
            "rollout.engines = 3 is more than learner.ranks = 2, and under rollout.colocated every engine shares the "
            "GPU of a rank; lower rollout.engines or raise learner.ranks.",
        ),
        (
            SHARED + "rollout.tensor_parallel_size=2",
            "rollout.tensor_parallel_size = 2 spreads an engine over GPUs of several ranks, and under "
            "rollout.colocated it shares that of one; give 1.",
        ),
        (
            SHARED + "rollout.weight_transfer=nccl",
            "rollout.weight_transfer = nccl takes no two processes on one GPU, and rollout.colocated has them there; "
            "give auto, ipc or host.",
        ),
        (
            CUDA + "rollout.sleep_level=2",
            "rollout.sleep_level = 2 is without effect unless rollout.colocated=true: engines with GPUs of their own "
            "never sleep; give 1.",
        ),
        (SHARED + "rollout.sleep_level=3", "rollout.sleep_level = 3 is not one of 1, 2."),
        (
            CUDA + "rollout.weight_transfer=ipc",
            "rollout.weight_transfer = ipc needs engine and learner rank on one GPU, and each has its own; give auto, "
            "or rollout.colocated=true.",
        ),
        (
            CUDA + "learner=zero2 learner.offload_while_drawing=true",
            "learner.offload_while_drawing is without effect unless rollout.colocated=true: nobody else could use the "
            "memory; give false.",
        ),
        (
            SHARED + "learner=zero3 learner.offload_while_drawing=true",
            "learner.offload_while_drawing needs learner.zero_stage = 2, and it is 3; give learner=zero2, or false and "
            "learner.offload_optimizer=true (zero_stage 1 or more).",
        ),
        (
            SHARED + "learner=zero2_offload learner.offload_while_drawing=true",
            "learner.offload_while_drawing is without effect with learner.offload_optimizer, which keeps the same "
            "state in host memory all the time; give false to one of them.",
        ),
        (
            SHARED + "learner=zero2 learner.offload_while_drawing=true checkpoint.form=deepspeed",
            "learner.offload_while_drawing has checkpoints written while that state is in host memory, and of "
            "checkpoint.form = deepspeed nobody knows whether it can; give checkpoint.form=portable.",
        ),
    ],
)
def test_what_does_not_go_together(overrides, sentence):
    assert check(compose(overrides.split())) == [sentence]


@pytest.mark.parametrize(
    "overrides",
    [
        SHARED,
        SHARED + "rollout.sleep_level=2 rollout.weight_transfer=ipc rollout.engines=1",
        SHARED + "rollout.weight_transfer=host rollout.adapter=in_process reference=loss",
        SHARED + "learner=zero2 learner.offload_while_drawing=true rollout.stragglers.policy=hedge",
        SHARED + "learner=zero3_offload",
        "rollout.colocated=true cluster.device=auto",
    ],
)
def test_what_does(overrides):
    assert check(compose(overrides.split())) == []


def test_an_evaluation_shares_with_nobody():
    alone = compose(["rollout.colocated=true", "cluster.device=cpu"])
    assert check(alone, training=False) == []
