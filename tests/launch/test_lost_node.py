"""What is left, and what is said, where a node dies under a run or the run's driver is killed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("lost_node")
    # In a process of its own, because this one may be connected to the Ray of the other tests.
    command = [sys.executable, str(ROOT / "tests/lost_node_run.py"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    # Ray prints what it has to say about the node that died.
    [line] = [line for line in done.stdout.splitlines() if line.startswith('{"killed driver"')]
    return json.loads(line)


@pytest.mark.parametrize(
    ("phase", "words", "actors"),
    [
        ("place", "StartFailed: ", "learner-0, learner-1"),
        ("load", "StartFailed: learner-[01] did not start: ", "learner-0, learner-1"),
        ("generate", "RolloutFailed: engine 0 died", "engine-0"),
        ("score", r"LearnerFailed: learner rank 0, 1 died in score", "learner-0, learner-1"),
    ],
)
def test_a_node_that_dies_is_named_with_what_was_there(found, phase, words, actors):
    said = found[phase]["said"]
    assert re.match(words, said)
    assert re.search(rf"; node [\d.]+ \(Ray's id \w{{12}}\) is gone, and with it (learner-0, )?{actors}\b", said)
    assert found[phase]["status"] == "failed"
    # Actors of the other node would take a minute; Ray takes 5 s to give the node up.
    assert found[phase]["seconds"] < 40
    assert found[phase]["left"] == {"actors": [], "places": 0, "free": 2.0}


def test_a_killed_driver_leaves_nothing_on_the_cluster(found):
    killed = found["killed driver"]
    assert killed["reached"]
    assert sum("LearnerWorker" in name for name in killed["running"]) == 2
    assert killed["left"] == {"actors": [], "places": 0, "free": 8.0}
