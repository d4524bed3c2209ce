"""What is left, and what is said, where a node dies under a run or the run's driver is killed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    return drill(tmp_path_factory.mktemp("lost_node"), "killed driver", "place", "generate")


@pytest.fixture(scope="module")
def found_too(tmp_path_factory) -> dict:
    return drill(tmp_path_factory.mktemp("lost_node"), "load", "score")


def drill(folder: Path, *phases: str) -> dict:
    # In a process of its own, because this one may be connected to the Ray of the other tests, and without its token.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "tests.lost_node_run", str(folder), *phases]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    # Ray prints what it has to say about the node that died.
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f'{{"{phases[0]}"')]
    return json.loads(line)


@pytest.mark.parametrize(
    ("phase", "words", "actors"),
    [
        ("place", "StartFailed: ", "learner-0, learner-1"),
        ("generate", "RolloutFailed: engine 0 died", "engine-0"),
    ],
)
def test_a_node_that_dies_is_named_with_what_was_there(found, phase, words, actors):
    check(found[phase], words, actors)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("load", "StartFailed: learner-[01] did not start: "),
        ("score", "LearnerFailed: learner rank 0, 1 died in score"),
    ],
)
def test_a_node_that_dies_later_is_named_too(found_too, phase, words):
    check(found_too[phase], words, "learner-0, learner-1")


def check(outcome: dict, words: str, actors: str) -> None:
    assert re.match(words, outcome["said"])
    gone = rf"; node [\d.]+ \(Ray's id \w{{12}}\) is gone, and with it (learner-0, )?{actors}\b"
    assert re.search(gone, outcome["said"])
    assert outcome["status"] == "failed"
    # Actors of the other node would take a minute; Ray takes 5 s to give the node up.
    assert outcome["seconds"] < 40
    assert outcome["left"] == {"actors": [], "places": 0, "free": 2.0}


def test_a_killed_driver_leaves_nothing_on_the_cluster(found):
    killed = found["killed driver"]
    assert "loading" in killed["said"], killed["said"]
    assert sum("LearnerWorker" in name for name in killed["running"]) == 2
    assert killed["left"] == {"actors": [], "places": 0, "free": 8.0}
