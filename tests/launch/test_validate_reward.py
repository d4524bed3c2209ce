"""What the reward section is refused for, in words."""

import pytest

from launch.config import compose
from launch.validate import check

RULES = "boxed, hash, answer_tag, the_answer_is, last_number"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("extraction=[]", f"reward.math.extraction is empty, so no answer would be found; give some of {RULES}."),
        ("extraction=[boxd]", f"reward.math.extraction names boxd, which is not one of {RULES}."),
        ("extraction=[boxed,hash,boxed]", "reward.math.extraction names boxed more than once."),
        ("percent=half", "reward.math.percent = half is not one of either, value, ignore."),
        ("units=si", "reward.math.units = si is not one of ignore, agree, require."),
        ("tolerance=1", "reward.math.tolerance = 1.0 has to be from 0 to below 1."),
    ],
)
def test_a_policy_that_cannot_be(override, sentence):
    assert check(compose([f"reward.math.{override}"])) == [sentence]


@pytest.mark.parametrize("preset", ["lenient", "boxed", "strict"])
def test_presets_pass(preset):
    assert check(compose([f"reward/math={preset}"])) == []
