"""`python -m tests.lost_node_run FOLDER PHASE...`: runs on two Ray nodes of which the second dies, a killed driver.

Actors are real, what they load is not. One line of what it prints is JSON: for each phase the sentence, the seconds
from the node's death to it, and what is left afterwards.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from launch import graph, train
from launch.cluster import use_private_token
from launch.config import compose
from launch.entry import RunFailed
from launch.graph import Graph
from launch.run_folder import SUMMARY
from learner import group
from learner.group import LearnerGroup
from rollout import pool
from rollout.pool import RolloutPool
from rollout.types import FinishReason, Response, VersionSpan

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HEAD_CPUS, NODE_CPUS = 2, 6
# Five seconds without a heartbeat, where Ray by itself waits for 15.
HEARTBEATS = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
RANKS_AWAY = ["learner.ranks=2", "cluster.cpus_per_rank=3"]
# A lost node has no successor here, so there is nothing to go on with.
ONCE = ["rollout.restarts=0", "checkpoint.restarts=0"]
ENGINE_AWAY = ["learner.ranks=1", "cluster.cpus_per_rank=2", "cluster.cpus_per_engine=4"]


SLOW = {"in": ""}  # what takes a minute, so that a node can die meanwhile


class Engine:
    """Answers every prompt with one token."""

    def __init__(self, index):
        self.calls = 0

    def start(self, *_):
        time.sleep(60 if SLOW["in"] == "start" else 0)

    def score(self, sequences, _):
        return [np.zeros(len(each) - 1, np.float32) for each in sequences]

    def generate(self, requests, *_):
        self.calls += 1
        time.sleep(60 if SLOW["in"] == "generate" and self.calls > 0 else 0)
        tokens, span = np.array([5], np.int32), (VersionSpan(0, 0),)
        one = np.zeros(1, np.float32)
        return [Response(r.uid, r.sample, tokens, one, "x", FinishReason.STOP, span, 0) for r in requests]

    def progress(self):
        return time.monotonic()

    def shutdown(self):
        pass


class Rank:
    def __init__(self, rank, ranks):
        pass

    def rendezvous(self):
        return "", 0

    def start(self, *_):
        time.sleep(60 if SLOW["in"] == "start" else 0)

    def connect_engines(self, *_):
        pass

    def send_weights(self, _):
        return 0

    def score_sequences(self, sequences):
        return [np.full(len(each) - 1, 1e-6, np.float32) for each in sequences]

    def score(self, *_):
        time.sleep(60)


def main(folder: str, *phases: str) -> None:
    use_private_token()
    os.environ["PYTHONPATH"] = ROOT
    head = {"num_cpus": HEAD_CPUS, "include_dashboard": False, "_system_config": HEARTBEATS}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=NODE_CPUS)
        ray.init(address=cluster.address, log_to_driver=False)
        found = {"killed driver": kill_driver(f"{folder}/driver", cluster)} if KILLED in phases else {}
        pool.EngineActor, group.LearnerWorker = Engine, Rank  # type: ignore[misc]
        for number, phase in enumerate(phase for phase in phases if phase != KILLED):
            owner, method, away = PHASES[phase]
            if number:
                cluster.add_node(num_cpus=NODE_CPUS)
            found[phase] = lose_node(f"{folder}/{phase}", cluster, phase, owner, method, away)
        print(json.dumps(found))
    finally:
        ray.shutdown()
        cluster.shutdown()


KILLED = "killed driver"
# The second node dies when this is called.
PHASES = {
    "place": (Graph, "start", RANKS_AWAY),
    "load": (graph, "wait_started", RANKS_AWAY),
    "generate": (RolloutPool, "generate", ENGINE_AWAY),
    "score": (LearnerGroup, "score", RANKS_AWAY),
}


def settings(folder: str, cluster: Cluster, *overrides: str) -> list[str]:
    base = [f"output.folder={folder}", "cluster=ray", f"cluster.address={cluster.address}", "output.display=lines"]
    return [*base, "rollout.engines=1", "evaluation.every=0", "evaluation.samples_per_prompt=1", *ONCE, *overrides]


def lose_node(folder: str, cluster: Cluster, phase: str, owner: object, method: str, away: list[str]) -> dict:
    SLOW["in"] = {"load": "start"}.get(phase, phase)
    original, died = getattr(owner, method), []

    def dying(*arguments):
        if not died:
            died.append(time.monotonic())
            [node] = cluster.worker_nodes
            threading.Thread(target=cluster.remove_node, args=(node, False)).start()
        return original(*arguments)

    setattr(owner, method, dying)
    try:
        train.train(compose(settings(folder, cluster, "steps=2", *away)))
        said = ""
    except RunFailed as error:
        said = str(error)
    finally:
        setattr(owner, method, original)
    seconds = time.monotonic() - died[0]
    summary = json.loads((Path(folder) / SUMMARY).read_text())
    return {"said": said, "seconds": seconds, "status": summary["status"], "left": left(HEAD_CPUS)}


def kill_driver(folder: str, cluster: Cluster) -> dict:
    command = [sys.executable, "-m", "launch.train", *settings(folder, cluster, *RANKS_AWAY)]
    # This cluster asks for no token, and its nodes would not understand a driver that does.
    environ = os.environ | {"RAY_AUTH_MODE": "disabled"}
    driver = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert driver.stdout is not None
    said: list[str] = []
    for line in driver.stdout:
        said.append(line)
        if "loading" in line:
            break
    running = left(0)["actors"]
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    return {"said": "".join(said), "running": running, "left": left(HEAD_CPUS + NODE_CPUS)}


def left(free_cpus: int) -> dict:
    """Actors and placement groups that are still there and whether `free_cpus` are free, after 20 s at most."""
    deadline = time.monotonic() + 20
    while True:
        places = [each for each in placement_group_table().values() if each["state"] != "REMOVED"]
        names = [name for name in map(title, psutil.process_iter()) if name.startswith(ACTORS)]
        free = ray.available_resources().get("CPU", 0.0)
        if free_cpus == 0 or not (places or names or free != free_cpus) or time.monotonic() > deadline:
            return {"actors": names, "places": len(places), "free": free}
        time.sleep(0.2)


ACTORS = ("ray::EngineActor", "ray::LearnerWorker", "ray::RewardWorker", "ray::Engine", "ray::Rank")


def title(process: psutil.Process) -> str:
    """Command line of a process that belongs to this one's cluster; "" for another."""
    try:
        return " ".join(process.cmdline()) if str(os.getpid()) in process.environ().get(MARK, "") else ""
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


MARK = "LOST_NODE_RUN"

if __name__ == "__main__":
    # In the environment of every process that comes of this one, wherever it ends up in the tree.
    os.environ[MARK] = str(os.getpid())
    main(*sys.argv[1:])
