"""Calibration against scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from launch.calibration import auroc, brier_score, expected_calibration_error


@pytest.mark.parametrize("digits", [16, 1], ids=["continuous", "ties"])
@pytest.mark.parametrize("seed", range(5))
def test_brier_and_auroc_are_those_of_scikit_learn(seed, digits):
    generator = np.random.default_rng(seed)
    confidence = generator.random(300).round(digits)
    right = generator.random(300) < confidence
    assert brier_score(confidence, right) == pytest.approx(brier_score_loss(right, confidence), abs=1e-12)
    assert auroc(confidence, right) == pytest.approx(roc_auc_score(right, confidence), abs=1e-12)


def test_calibration_error_by_hand():
    confidence = np.array([0.05, 0.1, 0.95, 0.95, 1.0, 0.0])
    right = np.array([False, True, True, False, True, False])
    # First bin: 1 of 3 right at a mean confidence of 0.05; last: 2 of 3 at 0.9667.
    assert expected_calibration_error(confidence, right) == pytest.approx((abs(1 - 0.15) + abs(2 - 2.9)) / 6)


def test_bins_hold_their_upper_edge():
    # 0.2 belongs to (0.1, 0.2], with 0.15: 1 right of 2 against 0.175. In a bin with 0.25 it would be other.
    confidence, right = np.array([0.15, 0.2, 0.25]), np.array([True, False, False])
    assert expected_calibration_error(confidence, right) == pytest.approx((abs(1 - 0.35) + 0.25) / 3)


def test_who_knows_what_is_right_has_no_error():
    confidence, right = np.array([0.0, 0.0, 1.0]), np.array([False, False, True])
    assert (expected_calibration_error(confidence, right), brier_score(confidence, right)) == (0, 0)
    assert auroc(confidence, right) == 1.0
    assert auroc(1 - confidence, right) == 0.0
    assert auroc(confidence, np.zeros(3, bool)) is None
