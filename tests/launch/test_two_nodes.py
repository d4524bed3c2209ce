"""Two Ray nodes on this machine: engines on one, learner ranks on the other, nothing shared but Ray."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from launch.run_folder import read_metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STEPS = 2


@pytest.fixture(scope="module")
def observed(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("two_nodes")
    # In a process of its own, because this one may be connected to the Ray of the other tests.
    command = [sys.executable, "-m", "tests.two_nodes_run", str(folder), f"steps={STEPS}", "rollout.engines=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_engines_and_ranks_are_on_different_nodes(observed):
    _, found = observed
    nodes, driver = found["nodes"], found["driver"]
    assert nodes["engine-0"] == driver
    assert nodes["learner-0"] == nodes["learner-1"] != driver


def test_weights_reach_the_other_node_at_every_step(observed):
    folder, _ = observed
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    assert all(0 <= row["sync/canary_abs_mean"] < 1e-4 and row["sync/bytes"] > 0 for row in rows[1:])


def test_model_and_logs_come_home(observed):
    folder, found = observed
    # On one machine the file system is shared after all, so it has to be seen that nobody relied on it.
    other = found["nodes"]["learner-0"]
    assert found["fetched"].count([other, "model.partial"]) == 1
    # Both ranks' logs, and the reward worker's where Ray put it on that node too.
    assert found["fetched"].count([other, "logs"]) in (2, 3)
    assert {node for node, _ in found["fetched"]} == {other}
    shipped = load_file(ROOT / "launch/assets/laboratory/96/model.safetensors")
    final = load_file(folder / "model" / "model.safetensors")
    assert {name: value.shape for name, value in final.items()} == {n: value.shape for n, value in shipped.items()}
    assert (folder / "model" / "tokenizer.json").is_file()
    assert not (folder / "model.partial").exists()
    logs = {path.name: path.stat().st_size for path in (folder / "logs").iterdir()}
    assert {"engine-0.log", "learner-0.log", "learner-1.log"} <= logs.keys()
    assert logs["learner-0.log"] > 0


def test_what_the_nodes_lack_is_said_and_nothing_stays_held(observed):
    _, found = observed
    assert (
        "after 2 s (cluster.start_timeout_s) the run needs 9 CPUs: 8 for learner ranks, 1 for engines; "
        in (found["refusal"])
    )
    assert "the cluster has 6 on 2 nodes: lower learner.ranks or rollout.engines or add nodes" in found["refusal"]
    assert found["free"] == [6.0, 6.0]
