"""The canary: the mean over all tokens, the worst engine by name, and NaN never passes."""

import numpy as np
import pytest

from launch.canary import CanaryMismatch, compare, prove

LEARNER = [np.array([-1.0, -2.0], np.float32), np.array([-3.0], np.float32)]
NAN = np.nan


def engine(*deltas):
    """The learner's values, shifted."""
    return np.split(np.concatenate(LEARNER) + np.array(deltas, np.float32), [2])


def test_the_mean_is_over_all_tokens_of_the_worst_engine():
    # Token means, not sequence means: (0.5 + 0 + 0.25) / 3.
    result = compare(LEARNER, [engine(0, 0, 0), engine(0.5, 0, -0.25), engine(0, 0.25, 0)])
    assert result.mean_abs == pytest.approx(0.25)
    assert result.engine == 1


def test_agreement_within_the_bound_passes():
    assert prove(LEARNER, [engine(0.75, 0, 0)], bound=0.25, version=1).mean_abs == 0.25


def test_beyond_the_bound_the_sentence_names_engine_version_and_setting():
    words = r"version 7: .* 3 tokens of 2 prompts by engine 1 .* differ by 1 nats .*rollout\.canary_bound=0\.5\."
    with pytest.raises(CanaryMismatch, match=words):
        prove(LEARNER, [engine(0, 0, 0), engine(1, 1, 1)], bound=0.5, version=7)


@pytest.mark.parametrize("engines", [[engine(NAN, 0, 0)], [engine(5, 5, 5), engine(0, 0, 0), engine(0, NAN, 0)]])
def test_nan_of_an_engine_never_passes(engines):
    with pytest.raises(CanaryMismatch, match=rf"engine {len(engines) - 1} .*differ by nan"):
        prove(LEARNER, engines, bound=1e9, version=0)


def test_nan_of_the_learner_never_passes():
    with pytest.raises(CanaryMismatch, match="nan"):
        prove([np.array([NAN, -2.0]), np.array([-3.0])], [engine(0, 0, 0)], bound=1e9, version=0)
