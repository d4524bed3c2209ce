"""What does not go together is said in a sentence that names the setting, and what goes together is not."""

import pytest

from entropy.plan import NEUTRAL
from learner.composition import NEEDS, problems
from learner.objective import token_losses
from tests.learner.objectives import SURROGATES, objective, pass_tokens


def found(**settings):
    return list(problems(objective(**settings)))


@pytest.mark.parametrize("name", SURROGATES)
def test_complete_settings_have_no_problem(name):
    assert found(**SURROGATES[name]) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"ratio": "sequence", "low": 3e-4, "high": 4e-4, "denominator": "sequences", "dual_clip": 3.0},
        {**SURROGATES["cispo"], "ratio": "sequence"},
        {**SURROGATES["sapo"], "ratio": "sequence"},
        {"denominator": "constant", "denominator_tokens": 512},
        {"correction": ("token_truncate", None, 2.0)},
        {"correction": ("token_mask", 0.5, 5.0)},
        {"correction": ("sequence_mask", None, 3.0), "ratio": "sequence"},
        {"correction": ("geometric_mask", 0.999, 1.002), "ratio": "sequence"},
        {"reference": ("loss", 0.01, "k2")},
        {**SURROGATES["ce_gppo"], "low": None},
    ],
)
def test_what_goes_together(settings):
    assert found(**settings) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"surrogate": "cispo"}, "needs algorithm.cispo_cap"),
        ({"cispo_cap": 2.0}, "algorithm.cispo_cap = 2.0 belongs to the surrogate cispo"),
        ({"sapo_temperature_negative": 2.0}, "belongs to the surrogate sapo"),
        ({"ce_gppo_high": 2.0}, "belongs to the surrogate ce_gppo"),
        ({**SURROGATES["cispo"], "dual_clip": 3.0}, "algorithm.dual_clip = 3.0"),
        ({**SURROGATES["cispo"], "low": 0.2}, "choose clip=none"),
        ({**SURROGATES["sapo"], "high": 0.2}, "choose clip=none"),
        ({**SURROGATES["ce_gppo"], "low": None, "high": None}, "both are null; give one"),
        ({**SURROGATES["ce_gppo"], "ratio": "sequence"}, "set algorithm.ratio=token"),
        ({"ratio": "sequence", "correction": ("token_mask", None, 2.0)}, "take a kind for sequences"),
        ({"ratio": "sequence", "correction": ("token_truncate", None, 2.0)}, "take a kind for sequences"),
        ({"denominator": "constant"}, "needs algorithm.denominator_tokens"),
        ({"denominator_tokens": 512}, "algorithm.denominator_tokens = 512 has no effect"),
        ({"correction": ("none", None, 2.0)}, "set both to null"),
        ({"correction": ("token_truncate", None, None)}, "caps at correction.high"),
        ({"correction": ("sequence_truncate", 0.5, 2.0)}, "has no lower bound"),
        ({"correction": ("geometric_mask", None, None)}, "both are null"),
        ({"correction": ("token_mask", 1.1, 2.0)}, "drops tokens without mismatch"),
        ({"correction": ("token_mask", 0.5, 0.9)}, "drops tokens without mismatch"),
        ({"reference": ("none", 0.1, "k3")}, "reference.coef = 0.1 has no effect"),
        ({"reference": ("reward", 0.0, "k3")}, "charges nothing"),
    ],
)
def test_what_does_not_go_together(settings, words):
    (sentence,) = found(**settings)
    assert words in sentence
    assert sentence.endswith(".")


def test_every_surrogate_says_what_it_needs():
    for name, settings in SURROGATES.items():
        needs = NEEDS[settings.get("surrogate", "ppo")]
        for missing in needs:
            config = objective(**(settings | {missing: None}))
            tokens = pass_tokens([1.0])
            with pytest.raises(ValueError, match=rf"needs algorithm\.{missing}"):
                token_losses(tokens, config, NEUTRAL)
            assert any(f"needs algorithm.{missing}" in problem for problem in problems(config)), name
    assert set(NEEDS) == {settings.get("surrogate", "ppo") for settings in SURROGATES.values()}
