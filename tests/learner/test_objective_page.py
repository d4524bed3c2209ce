"""docs/objective.md names tests, settings and metrics that exist."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from entropy.plan import NEUTRAL
from learner.config import AlgorithmConfig, ClipConfig, CorrectionConfig, ReferenceConfig
from learner.corrections import KINDS
from learner.objective import token_losses
from tests.learner.objectives import SURROGATES, objective, pass_tokens

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/objective.md").read_text()


def test_the_tests_it_names_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    assert [
        name for path, name in named if not re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ] == []


@pytest.mark.parametrize(
    ("group", "config"),
    [
        ("algorithm", AlgorithmConfig),
        ("clip", ClipConfig),
        ("reference", ReferenceConfig),
        ("correction", CorrectionConfig),
    ],
)
def test_the_settings_it_names_exist(group, config):
    assert set(re.findall(rf"`{group}\.(\w+)", PAGE)) <= {field.name for field in fields(config)}


def test_it_has_every_setting_of_the_surrogates_and_every_kind_of_correction():
    settings = {name for surrogate in SURROGATES.values() for name in surrogate} - {"surrogate"}
    groups = {name: "clip" if name in ("low", "high") else "algorithm" for name in settings}
    assert [name for name, group in groups.items() if f"`{group}.{name}`" not in PAGE] == []
    assert [kind for kind in KINDS if f"\n| `{kind}`" not in PAGE] == []


def test_it_has_every_metric_of_the_objective():
    found = set()
    for settings in (
        {**SURROGATES["ppo_dual"], "correction": ("token_mask", None, 2.0)},
        {**SURROGATES["sapo"], "ratio": "sequence", "reference": ("loss", 0.1, "k3")},
    ):
        _, tally = token_losses(pass_tokens([1.0], reference=0.1), objective(**settings), NEUTRAL)
        found |= set(tally.values())
        found |= set(tally.sums)
    assert [name for name in sorted(found) if f"`{name}`" not in PAGE] == []
