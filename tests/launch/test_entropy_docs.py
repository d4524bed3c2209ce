"""docs/entropy says what the registry, conf/ and the settings say."""

import re
import shlex
from dataclasses import fields

import pytest

from entropy.config import EntropyConfig
from entropy.controls import REGISTRY
from launch.config import CONF
from launch.entropy_table import PATH, options, page
from launch.optional import without_none
from launch.validate import check
from tests.composed import compose

README = PATH.read_text()


def test_the_table_is_true():
    assert page(README) == README, "run python -m launch.entropy_table"


def test_the_registry_has_every_section_in_its_order():
    assert [field.name for field in fields(EntropyConfig)] == [*REGISTRY, "allow_inert"]


def test_every_control_has_an_option_and_a_page_and_nothing_else_has():
    assert all(options().values())
    assert {file.stem for file in PATH.parent.glob("*.md")} == {*REGISTRY, "README", "dynamics"}


@pytest.mark.parametrize("name", REGISTRY)
def test_a_page_names_options_settings_and_source(name):
    text = (PATH.parent / f"{name}.md").read_text()
    assert text.startswith("# ")
    assert f"`entropy.{name}`\n" in text.splitlines(keepends=True)[0]
    section = without_none(EntropyConfig.__annotations__[name])
    missing = [field.name for field in fields(section) if f"`{field.name}`" not in text]
    assert missing == []
    assert all(f"`{option}`" in text for option in options()[name])
    for part in ("\n```\n", "\nNeeds: ", "\nKnown failures: "):
        assert part in text
    for number in re.findall(r"arXiv (\d{4}\.\d{5})", REGISTRY[name].source):
        assert number in text


@pytest.mark.parametrize("file", sorted(PATH.parent.glob("*.md")), ids=lambda file: file.stem)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        assert (file.parent / target).exists(), target


@pytest.mark.parametrize("command", re.findall(r"^python -m launch\.train (.*)$", README, re.MULTILINE))
def test_a_command_is_valid(command):
    assert check(compose(shlex.split(command))) == []


def test_published_settings_are_the_defaults():
    """Figures of the pages that conf/ has too."""
    config = compose(
        ["entropy=[clip_cov,kl_cov,adaptive_bonus,prog_adv_guided,rand_pos_clip,high_entropy,temperature]"]
    ).entropy
    assert (config.clip_cov.rate, config.clip_cov.low, config.clip_cov.high) == (2e-4, 1.0, 5.0)
    assert (config.kl_cov.rate, config.kl_cov.coef, config.kl_cov.penalty) == (2e-3, 1.0, "abs")
    assert vars(config.adaptive_bonus) == {"target": 0.2, "initial": 0, "step": 1e-4, "lowest": 0, "highest": 0.005}
    guided = config.positive_advantage
    assert (guided.target, guided.step, guided.initial, guided.lowest, guided.highest) == (0.2, 0.05, 0, 0, 1)
    assert (config.rand_pos_clip.rate, config.high_entropy.share) == (2e-4, 0.2)
    steered = config.temperature
    assert (steered.target, steered.anneal_share, steered.anneal_to) == (None, 0.4, 0.9)
    shifted = compose(["entropy=entropy_advantage"]).entropy.entropy_advantage
    assert (shifted.coef, shifted.bound) == (0.4, 2.0)
    assert compose(["entropy=w_reinforce"]).entropy.positive_advantage.initial == 0.1
    assert (CONF / "entropy" / "none.yaml").read_text().endswith("{}\n")
