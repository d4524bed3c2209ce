"""Entropy by outcome and by place, of two responses worked by hand."""

import numpy as np
import pytest

from launch.batch import Sample, add_advantages, build_batch
from launch.entropy_metrics import entropy_metrics
from reward.composition import Reward
from rollout.types import FinishReason, Prompt, Response, VersionSpan
from tests.composed import compose

CONFIG = compose([])


def trained(*rewards: float | None, lengths: tuple[int, ...]):
    prompt = Prompt("p/0", "", np.array([1], np.int32), "s", "v", None, {}, "0")
    responses = [
        Response(
            "p/0",
            i,
            np.arange(n, dtype=np.int32),
            np.zeros(n, np.float32),
            "",
            FinishReason.STOP,
            (VersionSpan(0, 0),),
            0,
        )
        for i, n in enumerate(lengths)
    ]
    samples = Sample.of_groups([prompt], [responses], [r if r is None else Reward(r, {}) for r in rewards])
    return samples, add_advantages(samples, build_batch(samples, True, None, 1.0), CONFIG.algorithm, CONFIG.reference)


def test_by_hand():
    # The first response failed and is no part of the batch.
    samples, trainable = trained(None, 1.0, 0.0, lengths=(3, 4, 6))
    row = entropy_metrics(samples, trainable, np.array([1, 2, 3, 4, 0, 0, 5, 6, 7, 9], np.float32))
    assert row == pytest.approx(
        {
            "entropy/sequence_mean": (10 / 4 + 27 / 6) / 2,
            "entropy/p10": 0.0,
            "entropy/p50": 3.5,
            "entropy/p90": 7.2,  # 0.1 of the way from 7 to 9
            "entropy/top_fifth_mean": 8.0,
            "entropy/correct_mean": 2.5,
            "entropy/wrong_mean": 4.5,
            "entropy/first_quarter_mean": (1 + 0 + 0) / 3,  # of four tokens the first, of six the first two
            "entropy/last_quarter_mean": (4 + 9) / 2,
        }
    )


def test_an_outcome_that_nobody_had_has_no_mean():
    samples, trainable = trained(1.0, 1.0, lengths=(1, 2))
    row = entropy_metrics(samples, trainable, np.ones(3, np.float32))
    assert "entropy/correct_mean" in row
    assert "entropy/wrong_mean" not in row
