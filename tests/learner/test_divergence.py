"""Estimates of a divergence against its exact value, and against hand-worked tokens."""

import numpy as np
import pytest

from learner.divergence import divergences


def of(x, estimator):
    """From the log-ratio of one token."""
    [value] = divergences(np.array([x]), np.array([0.0]), estimator)
    return value


def test_by_hand():
    x = np.log(2.0)  # the policy gives the token twice the probability
    assert of(x, "k1") == pytest.approx(np.log(2))
    assert of(x, "k2") == pytest.approx(np.log(2) ** 2 / 2)
    assert of(x, "k3") == pytest.approx(0.5 - 1 + np.log(2))
    assert of(-x, "k3") == pytest.approx(2 - 1 - np.log(2))


def test_k1_and_k3_are_unbiased():
    policy, reference = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    exact = (policy * np.log(policy / reference)).sum()
    for estimator in ("k1", "k3"):
        assert policy @ divergences(np.log(policy), np.log(reference), estimator) == pytest.approx(exact)


def test_one_token_cannot_outweigh_everything():
    assert of(1000.0, "k1") == 20.0
    assert of(-1000.0, "k3") == pytest.approx(np.exp(20.0) - 21)


def test_digits_of_equal_policies_are_kept():
    assert of(0.0, "k3") == 0.0
    assert of(1e-9, "k3") >= 0.0


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match=r"reference\.estimator = k4 is unknown"):
        of(0.0, "k4")
