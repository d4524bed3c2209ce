"""One place for an engine and a rank: what it needs, what each asks for, and that both see one GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cluster import divide, groups, sentences
from launch.config import ConfigError, RunConfig, compose
from launch.placement import ENGINES, RANKS, REFERENCES, Node, lacks
from launch.sharing import PAIRS, by_actor, sharing_groups

ROOT = Path(__file__).parents[2]


def config(*overrides: str) -> RunConfig:
    sizes = ["rollout.engines=2", "learner.ranks=3", "cluster.cpus_per_engine=4", "cluster.cpus_per_rank=2"]
    return compose(["output.folder=unused", "rollout.colocated=true", *sizes, *overrides])


def node(cpus: int, gpus: int) -> Node:
    return Node("0", "10.0.0.0", cpus, gpus)


def test_two_engines_and_three_ranks_take_three_gpus():
    wanted = groups(config(), "cuda")
    assert [(group.name, group.count, group.cpus, group.gpus) for group in wanted] == [
        (PAIRS, 2, 6, 1),
        (RANKS, 1, 2, 1),
    ]
    assert [group.bundles for group in wanted] == [[{"CPU": 6.0, "GPU": 1.0}] * 2, [{"CPU": 2.0, "GPU": 1.0}]]
    assert lacks(wanted, [node(14, 3)]) == ""


def test_without_sharing_they_take_five():
    assert sum(group.count * group.gpus for group in groups(config("rollout.colocated=false"), "cuda")) == 5


def test_a_rank_for_each_engine_leaves_none_over():
    assert [group.name for group in groups(config("learner.ranks=2"), "cuda")] == [PAIRS]


def test_reference_actors_have_gpus_of_their_own():
    wanted = groups(config("reference=loss"), "cuda")
    assert [group.name for group in wanted] == [PAIRS, RANKS, REFERENCES]
    assert lacks(wanted, [node(99, 3)]) == (
        "the run needs 4 GPUs: 2 for engines with a learner rank, 1 for learner ranks, 1 for reference actors; the "
        "cluster has 3 on 1 node: lower learner.ranks or reference.actors, add nodes or set cluster.device=cpu"
    )


def test_a_pair_needs_its_cpus_on_the_node_of_its_gpu():
    wanted = groups(config("learner.ranks=2"), "cuda")
    assert lacks(wanted, [node(6, 1), node(6, 1)]) == ""
    assert "2 engines with a learner rank take 6 CPUs and 1 GPU each" in lacks(wanted, [node(5, 1), node(7, 1)])
    assert lacks(wanted, [node(5, 1)] * 3) == (
        "each of the engines with a learner rank takes 6 CPUs of one node, and no node has more than 5: lower "
        "cluster.cpus_per_engine or cluster.cpus_per_rank, or add larger nodes"
    )


def test_engine_i_and_rank_i_ask_for_half_of_the_gpu_of_one_bundle():
    held = {
        PAIRS: [{"num_cpus": 6, "num_gpus": 1, "scheduling_strategy": f"pair {i}"} for i in range(2)],
        RANKS: [{"num_cpus": 2, "num_gpus": 1, "scheduling_strategy": "rank"}],
    }
    found = by_actor(config(), held)
    assert found == {
        ENGINES: [{"num_cpus": 4, "num_gpus": 0.5, "scheduling_strategy": f"pair {i}"} for i in range(2)],
        RANKS: [
            {"num_cpus": 2, "num_gpus": 0.5, "scheduling_strategy": "pair 0"},
            {"num_cpus": 2, "num_gpus": 0.5, "scheduling_strategy": "pair 1"},
            {"num_cpus": 2, "num_gpus": 1, "scheduling_strategy": "rank"},
        ],
    }
    apart = {ENGINES: [{"num_gpus": 1}], RANKS: [{"num_gpus": 1}]}
    assert by_actor(config(), apart) == apart


def test_a_machine_without_gpus_has_nothing_to_share():
    with pytest.raises(
        ConfigError, match=r"the run is on cpu, where engines cannot sleep; give rollout.colocated=false"
    ):
        divide(config(), [node(8, 0)], joined=False)
    assert divide(config(), [node(99, 3)], joined=False).device == "cuda"
    # Engines alone, as for an evaluation, share with nobody.
    assert divide(config(), [node(8, 0)], joined=False, only=ENGINES).device == "cpu"
    with pytest.raises(ConfigError, match="the run needs 2 GPUs: 2 for engines; this machine has 1 on 1 node"):
        divide(config(), [node(8, 1)], joined=False, only=ENGINES)


def test_it_is_told_that_nobody_has_tried_it():
    lines = sentences(config("rollout.sleep_level=2"), divide(config(), [node(99, 3)], joined=False), [node(99, 3)])
    assert lines[-1] == (
        "UNVERIFIED too: 2 engines share GPUs with learner ranks, and sleep at level 2 while those train "
        "(rollout.colocated)."
    )
    apart = config("rollout.colocated=false")
    assert "too" not in sentences(apart, divide(apart, [node(99, 5)], joined=False), [node(99, 5)])[-1]


# Ray takes GPUs on trust: four that are not there are shown to actors all the same.
SEEN = """
import json, os, sys
import ray
from launch.config import compose
from launch.cluster import groups, use_private_token
from launch.placement import ENGINES, RANKS, reserved
from launch.sharing import by_actor

use_private_token()
ray.init(address="local", num_cpus=16, num_gpus=4, include_dashboard=False, log_to_driver=False)

@ray.remote
class Actor:
    def sees(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

config = compose(json.loads(sys.argv[1]))
with reserved(groups(config, "cuda"), 60.0, print) as held:
    options = by_actor(config, held)
    actors = {name: [Actor.options(**each).remote() for each in options[name]] for name in (ENGINES, RANKS)}
    found = {name: ray.get([a.sees.remote() for a in each], timeout=60) for name, each in actors.items()}
print(json.dumps(found))
ray.shutdown()
"""


@pytest.mark.slow
def test_ray_shows_an_engine_and_its_rank_the_same_gpu():
    overrides = ["output.folder=unused", "rollout.colocated=true", "rollout.engines=2", "learner.ranks=3"]
    # In a process of its own, because this one may be connected to the Ray of the other tests.
    done = subprocess.run(
        [sys.executable, "-c", SEEN, json.dumps(overrides)], cwd=ROOT, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    engines, ranks = found[ENGINES], found[RANKS]
    assert engines == ranks[:2]
    assert len(set(ranks)) == 3
    assert all(seen.isdigit() for seen in ranks)


def test_groups_of_a_pair_are_as_many_as_engines():
    assert [group.count for group in sharing_groups(config("rollout.engines=3"))] == [3, 0]
