"""docs/metrics.md, the registry behind it and the code name the same metrics."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from entropy.controls import REGISTRY, make_controls
from launch.config import CONF
from launch.evaluate import accuracy_row
from launch.metric_registry import PLACE, Metric, entry, registry, unknown
from launch.metrics_page import PATH, page
from launch.phases import Phases
from reward.types import Verdict
from tests.composed import compose
from tests.entropy.control_tokens import random_tokens

ROOT = CONF.parent
ROOMS = ("entropy", "launch", "learner", "reward", "rollout")
NAMESPACES = {metric.name.split("/")[0] for metric in registry() if "/" in metric.name}
CONTROLS = "clip_cov,kl_cov,adaptive_bonus,prog_adv_guided,negative_only,rand_pos_clip,high_entropy,temperature"
# What a name may hold between its slashes, a placeholder standing for a name of the run.
SHAPE = re.compile(r"[\w.<>]+(/[\w.<>]*)*")


@cache
def pieces(file: Path) -> frozenset[str]:
    """String constants and f-strings of a file that could be a metric's name or part of one, `<x>` where it varies."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "<x>" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if SHAPE.fullmatch(text) and not text.endswith(".py"):
            found.add(text)
    return frozenset(found)


def fits(piece: str, name: str) -> bool:
    """Whether the piece can become the name; something has to be put in at every <x>."""
    return re.fullmatch(".+".join(re.escape(part) for part in PLACE.split(piece)), name) is not None


def example(metric: Metric) -> str:
    return PLACE.sub("x", metric.name)


def writes(file: Path, metric: Metric) -> bool:
    name = example(metric)
    ends = (name, name.split("/")[-1])
    return any(fits(piece, end) for piece in pieces(file) if len(PLACE.sub("", piece)) > 2 for end in ends)


def test_the_page_is_true():
    assert page() == PATH.read_text(encoding="utf-8"), "run python -m launch.metrics_page"


def test_every_name_is_there_once_and_says_everything():
    names = [metric.name for metric in registry()]
    assert len(names) == len(set(names))
    assert not [metric.name for metric in registry() if "|" in metric.definition or metric.definition.endswith(".")]


def test_every_entry_is_written_by_the_file_it_names():
    missing = [f"{metric.writer}: {metric.name}" for metric in registry() if not writes(ROOT / metric.writer, metric)]
    assert missing == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_in_the_code_is_in_the_registry(room):
    names = [example(metric) for metric in registry()]
    missing = [
        f"{file.relative_to(ROOT)}: {piece}"
        for file in sorted((ROOT / room).rglob("*.py"))
        for piece in sorted(pieces(file))
        if piece.split("/")[0] in NAMESPACES and "/" in piece and not piece.startswith("reward/verifiers")
        # A name, or what others are made of: "time/verdict" of "time/verdict_p50_s".
        if entry(piece) is None and not any(fits(piece, name) or fits(piece + "<x>", name) for name in names)
    ]
    assert missing == []


def test_names_put_together_from_parts_are_in_the_registry():
    judged = [Verdict(1.0, None, "1", "r", "", 0.0), Verdict(0.0, None, "2", "r", "", 0.0)] * 3
    written = {f"eval/any.set/{name}" for name in accuracy_row([judged, judged], 0)} | set(Phases().row())
    controls = make_controls(compose([f"entropy=[{CONTROLS}]"]).entropy, 0, 10)
    for scope in ("update", "rollout"):
        written |= set(controls.plan(random_tokens(3), scope).metrics)
    assert {"clip_cov/selected_share", "high_entropy/dropped_share"} <= written
    assert unknown(sorted(written)) == []


def test_the_registry_has_no_phase_and_no_control_that_is_gone():
    phases = {metric.name for metric in registry() if metric.writer == "launch/phases.py"}
    assert {name for name in phases if name.startswith("time/")} == set(Phases().row())
    of_controls = {metric.name.split("/")[0] for metric in registry() if metric.writer.startswith("entropy/controls")}
    assert of_controls <= set(REGISTRY)


def test_an_exact_entry_comes_before_a_pattern():
    assert entry("eval/aime.24/avg_at_k_low").name == "eval/<set>/avg_at_k_low"
    assert entry("reward/by_source/a/b/accuracy").unit == "share"
    assert entry("mismatch/token_ratio_mean").name == "mismatch/<level>_ratio_mean"
    assert entry("policy/loss_mean") is None
    assert unknown(["step", "x", "x", "time/step"]) == ["x", "time/step"]
