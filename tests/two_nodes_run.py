"""`python -m tests.two_nodes_run FOLDER [overrides]`: a real run on two Ray nodes, engines on one, ranks on the other.

The last line it prints is JSON: the node of the driver and of each actor, what was fetched from which node, the CPUs
free after each run, and what a second run said that the nodes have no room for.
"""

import json
import os
import sys
import time

import ray
from ray.cluster_utils import Cluster

from launch import graph, logs
from launch.cluster import use_private_token
from launch.config import compose
from launch.entry import RunFailed
from launch.graph import Graph
from launch.nodes import where
from launch.train import train

# Only the second node has room for two ranks of 2 CPUs each; the driver is on the first.
CPUS = (2, 4)


def main(folder: str, *overrides: str) -> None:
    use_private_token()
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS[0], "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=CPUS[1])
        ray.init(address=cluster.address, log_to_driver=False)
        print(json.dumps(observe(folder, cluster.address, *overrides)))
    finally:
        ray.shutdown()
        cluster.shutdown()


def observe(folder: str, address: str, *overrides: str) -> dict:
    base = ["cluster=ray", f"cluster.address={address}", "cluster.cpus_per_rank=2", "output.display=lines"]
    base += ["evaluation.samples_per_prompt=1", "evaluation.every=0", *overrides]
    nodes: dict[str, str] = {}
    sync = Graph.sync

    def look(self, version):
        actors = {f"engine-{i}": actor for i, actor in enumerate(self.rollout.actors)}
        actors |= {f"learner-{i}": actor for i, actor in enumerate(self.learner.actors)}
        nodes.update({name: place.id for name, place in where(actors, 60).items()})
        return sync(self, version)

    fetched: list[list[str]] = []
    fetch = logs.fetch

    def count(place, away, target, timeout_s):
        fetched.append([place.id, target.name])
        fetch(place, away, target, timeout_s)

    Graph.sync, graph.fetch, logs.fetch = look, count, count
    train(compose([f"output.folder={folder}", *base]))
    free = free_cpus()
    refusal = ""
    try:
        too_many = ["learner.ranks=4", "cluster.start_timeout_s=2"]
        train(compose([f"output.folder={folder}/too_large", *base, *too_many]))
    except RunFailed as error:
        refusal = str(error)
    free_after = free_cpus()
    driver = ray.get_runtime_context().get_node_id()
    return {"driver": driver, "nodes": nodes, "free": [free, free_after], "refusal": refusal, "fetched": fetched}


def free_cpus() -> float:
    """CPUs that nobody holds; Ray takes a moment to hear of what was given back."""
    deadline = time.monotonic() + 20
    while (free := ray.available_resources().get("CPU", 0.0)) < sum(CPUS) and time.monotonic() < deadline:
        time.sleep(0.5)
    return free


if __name__ == "__main__":
    main(*sys.argv[1:])
