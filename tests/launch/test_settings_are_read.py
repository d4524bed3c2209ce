"""No setting without effect: code outside the configuration itself reads every one of them."""

import ast
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

from launch.alarms import RULES
from launch.config import RunConfig
from launch.optional import without_none

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("entropy", "launch", "learner", "reward", "rollout")
# What declares settings, or only looks whether they are possible.
NOT_READERS = (
    "config.py",
    "limits.py",
    "validate.py",
    "validate_checkpoint.py",
    "validate_colocated.py",
    "validate_data.py",
    "validate_entropy.py",
    "validate_method.py",
    "validate_reward.py",
    "validate_rollout.py",
    "validate_sampling.py",
    "misspelt.py",
)
# Read by other settings, as ${...} in conf/.
READ_IN_CONF = {"name", "data.path"}
# Says what the check before a run lets pass.
READ_IN_VALIDATION = {"entropy.allow_inert"}
# Thresholds, each by the rule of its name; launch/alarms.py has no other.
READ_BY_NAME = {f"alarms.{kind}" for kind in RULES}


def leaves(kind, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        inner = get_args(hint)[1] if get_origin(hint) is dict else without_none(hint)
        if is_dataclass(inner):
            yield from leaves(inner, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def attributes_read(source: str) -> Iterator[tuple[str, str]]:
    """Each attribute that `source` reads, by dot or by name in a call, with the last name of what it is read from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield last_name(node.value), node.attr
        elif isinstance(node, ast.Call):
            quoted = [value.value for value in node.args if isinstance(value, ast.Constant)]
            yield from ((last_name(owner), name) for owner in node.args for name in quoted if last_name(owner))


def last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def unread(settings, sources) -> set[str]:
    """Settings that no source reads as an attribute of something called like their section or `config`."""
    pairs = {pair for source in sources for pair in attributes_read(source)}
    found = set()
    for setting in settings:
        *sections, name = setting.split(".")
        section = sections[-1] if sections else "config"
        # A section goes to its room as `config`, a set of prompts as `source`.
        owners = {section, "config"} | ({"source"} if len(sections) > 1 else set())
        if not any(owner.lstrip("_") in owners and attribute == name for owner, attribute in pairs):
            found.add(setting)
    return found


def test_every_setting_is_read():
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py") if file.name not in NOT_READERS]
    assert len(files) > 40
    settings = set(leaves(RunConfig))
    assert settings >= READ_BY_NAME
    sources = [file.read_text() for file in files]
    assert unread(settings - READ_BY_NAME, sources) == READ_IN_CONF | READ_IN_VALIDATION


def test_what_is_read_in_validation_is_read_there():
    source = (ROOT / "launch" / "validate_entropy.py").read_text()
    assert unread(READ_IN_VALIDATION, [source]) == set()


def test_settings_read_in_conf_stand_in_an_interpolation():
    text = "\n".join(file.read_text() for file in (ROOT / "conf").rglob("*.yaml"))
    assert all(f"${{{setting}}}" in text for setting in READ_IN_CONF)


def test_a_setting_that_is_only_written_or_only_of_something_else_is_unread():
    source = "clip.low = 1\nother.high\nconfig.clip.top\nself._clip.bottom\nlow\nneeded(clip, 'left')\nprint('right')"
    names = ("low", "high", "top", "bottom", "left", "right")
    assert unread([f"clip.{name}" for name in names], [source]) == {"clip.low", "clip.high", "clip.right"}
