"""Figures of the covariance of a rollout batch, worked by hand and against the estimators they come from."""

from dataclasses import replace

import numpy as np
import pytest

from entropy.config import ClipCovConfig
from entropy.covariance import covariance_tail
from launch.covariance_metrics import covariance_metrics
from learner.types import TokenBatch

BAND = ClipCovConfig(0.1, 1.0, 5.0, "absolute", "covariance", "covariance", "update")
# Two prompts of two responses; the fourth token does not take part.
LOGPROBS = np.array([-1, -3, -2, -9, -2, -2], np.float32)
BATCH = TokenBatch(
    tokens=np.zeros(10, np.int32),
    lengths=np.array([3, 3, 2, 2], np.int32),
    prompt_lengths=np.ones(4, np.int32),
    groups=np.array([0, 0, 1, 1], np.int32),
    sample_keys=np.arange(4, dtype=np.uint64),
    temperature=1.0,
    behaviour_logprobs=np.zeros(6, np.float32),
    mask=np.array([True, True, True, False, True, True]),
    versions=np.zeros(6, np.int32),
    advantages=np.array([2, 2, -1, -1, -3, 0], np.float32),
    old_logprobs=None,
    old_entropies=None,
    reference_logprobs=None,
)


def metrics(batch=BATCH, band=None):
    return covariance_metrics(batch, LOGPROBS, np.zeros(6, np.float32), band)


def test_by_hand():
    # Means of the five trained tokens: log-prob -2, advantage 0. Scores (1·2, -1·2, 0, 0, 0).
    found = metrics()
    assert found["covariance/mean"] == 0
    assert found["covariance/std"] == pytest.approx(np.sqrt(8 / 5))
    assert [found[f"covariance/top_{share}"] for share in ("0.0002", "0.2", "0.5")] == [2, 2, pytest.approx(2 / 3)]
    assert found["covariance/quantile_0.5"] == 0
    # Of the first prompt: mean log-probs -2 and -2, no covariance; of the second -2 and -2 too.
    assert found["covariance/bandit_mean"] == pytest.approx(0)
    assert "covariance/band_share" not in found
    assert all(np.isfinite(list(found.values())))


def test_the_share_in_the_band_where_it_is_absolute():
    assert metrics(band=BAND)["covariance/band_share"] == 1 / 5
    assert "covariance/band_share" not in metrics(band=replace(BAND, bounds="quantile", high=1.0, low=0.9))


def test_every_figure_of_the_tail():
    rng = np.random.default_rng(0)
    size = 6
    logprobs, advantages = -rng.exponential(1, size).astype(np.float32), rng.normal(size=size).astype(np.float32)
    batch = replace(BATCH, mask=np.ones(size, bool), advantages=advantages)
    found = covariance_metrics(batch, logprobs, logprobs, None)
    x, a = logprobs.astype(float), advantages.astype(float)
    scores = (x - x.mean()) * (a - a.mean())
    assert found["covariance/mean"] == pytest.approx(np.cov(x, a, bias=True)[0, 1])
    tail = covariance_tail(scores, 0, 1)
    for level, value in tail.quantiles.items():
        assert found[f"covariance/quantile_{level:g}"] == pytest.approx(value)
    for share, value in tail.top.items():
        if share < 1:
            assert found[f"covariance/top_{share:g}"] == pytest.approx(value)
    assert len(found) == 3 + len(tail.quantiles) + len(tail.top) - 1


def test_without_a_trained_token_there_are_no_figures():
    assert metrics(replace(BATCH, mask=np.zeros(6, bool))) == {}
