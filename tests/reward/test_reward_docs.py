"""docs/reward.md: its verifier of twenty lines runs as printed, and its table, commands and replies are true."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from launch.config import compose
from launch.validate import check
from reward.child import judge
from reward.code.reference import SHAPES
from reward.keeper import Keeper
from reward.sandbox import Isolation
from reward.types import FailureKind, Outcome, VerificationRequest
from reward.verifiers import REGISTRY
from reward.verifiers.math import make
from reward.verifiers.reasoning_gym import RAISES, TRUTH_TASKS
from reward.verifiers.remote import RETRIED, judgement_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reward.md").read_text()
[CODE] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    command
    for block in re.findall(r"```\n(python .*?)```", PAGE, re.DOTALL)
    for command in block.replace("\\\n", " ").strip().splitlines()
]
ROWS = re.findall(r"^\| `([\w.:]+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)


def request(verifier, response, gold):
    return VerificationRequest(verifier, "", response, gold, {})


def test_the_verifier_as_printed(tmp_path, monkeypatch):
    assert len(CODE.splitlines()) <= 20
    (tmp_path / "verifiers_of_the_page.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "verifiers_of_the_page:ends_with"
    keeper = Keeper([name], compose([]).reward.verifier_settings(), 1, 5.0, 256, 1000, 256, 60.0)
    cases = [("It is Paris.", "paris"), ("It is Rome.", "paris"), ("", "paris"), ("Paris", 7)]
    try:
        verdicts = keeper.verify([request(name, *case) for case in cases], deadline_s=30.0)
    finally:
        keeper.close()
    assert [v.outcome for v in verdicts] == [Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE, Outcome.FAILED]
    assert verdicts[3].failure is FailureKind.BAD_REFERENCE


def test_a_verifier_that_keeps_a_limit_of_its_own():
    def late(request):
        raise TimeoutError("the server took too long")

    verdict = judge(request("late", "", None), {"late": late})
    assert (verdict.failure, verdict.detail) == (FailureKind.TIMEOUT, "the server took too long")


def test_every_registered_verifier_is_in_the_table():
    assert set(REGISTRY) <= {name for name, _ in ROWS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_passes_as_written(command):
    _, _, module, *overrides = shlex.split(command)
    assert module == "launch.train"
    assert check(compose(overrides)) == []


def test_there_are_commands():
    assert len(COMMANDS) == 3


def test_every_setting_that_is_named_exists():
    named = set(re.findall(r"`\+?reward\.([\w.]+)", PAGE)) - {"grade"}
    known = flat(compose([]).reward, "")
    assert {name for name in named if not any(key == name or key.startswith(f"{name}.") for key in known)} <= {"math"}
    assert known >= {"terms.overlong.weight", "remote.attempts"}


def flat(section, prefix):
    found = set()
    for field in fields(section):
        value = getattr(section, field.name)
        nested = hasattr(value, "__dataclass_fields__")
        found |= flat(value, f"{prefix}{field.name}.") if nested else {prefix + field.name}
    return found


def test_what_it_says_of_verdicts_and_tasks():
    for kind in FailureKind:
        assert f"`{kind.value}`" in PAGE
    for task in [*RAISES, *TRUTH_TASKS]:
        assert task in PAGE
    statuses = re.search(r"status ((?:\d+, )+\d+ or \d+) \|", PAGE)[1]
    assert set(map(int, re.findall(r"\d+", statuses))) == RETRIED


PRESETS = ("lenient", "boxed", "strict")
ACCEPTED = re.findall(r"^\| `(.+)` \| `(.+)` \| (yes|no) \| (yes|no) \| (yes|no) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_accepts(preset):
    verify = make(compose([f"reward/math={preset}"]).reward.verifier_settings())
    assert len(ACCEPTED) >= 20
    for gold, response, *expected in ACCEPTED:
        score = verify(request("math", response, gold)).score
        assert score == (expected[PRESETS.index(preset)] == "yes"), (gold, response)


def test_every_shape_of_tests_is_in_the_table():
    shapes = re.findall(r"\{[^}]*\}", SHAPES)
    assert len(shapes) == 6
    for shape in shapes:
        assert f"| `{shape}` |" in PAGE


def test_every_level_of_isolation_is_in_the_table():
    for level in Isolation:
        assert f"| `{level.name.lower()}` |" in PAGE


def test_the_reply_as_printed():
    [sent] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(sent).keys() == {field.name for field in fields(VerificationRequest)} - {"verifier"}
    [reply] = re.findall(r'The reply is `(\{"score".*?\})`', PAGE)
    assert judgement_of(reply.encode()).score == 1.0
