"""avg@k by hand, with failed verdicts left out."""

import numpy as np
import pytest

from launch.evaluate import average_at_k

NAN = np.nan


@pytest.mark.parametrize(
    ("right", "wanted"),
    [
        ([[1, 0], [1, 1]], 0.75),
        ([[1, 0, 0, 0]], 0.25),
        ([[1, NAN], [0, 0]], 0.5),  # a mean of prompts: (1 + 0) / 2, not 1 right of 3
        ([[1, NAN, NAN], [1, 0, NAN]], 0.75),
        ([[NAN, NAN], [1, 0]], 0.5),  # a prompt without any verdict is left out
        ([[0, 0]], 0.0),
    ],
)
def test_average_at_k(right, wanted):
    assert average_at_k(np.array(right, float)) == wanted


def test_no_verdict_at_all_is_not_a_figure():
    with pytest.raises(ValueError, match="no response of the evaluation set has a verdict"):
        average_at_k(np.full((2, 3), NAN))
