"""What a run needs and what a cluster lacks, in sentences; no Ray."""

import pytest

from launch.config import compose
from launch.placement import (
    ENGINES,
    RANKS,
    REFERENCES,
    ClusterTooSmall,
    Group,
    Node,
    _options,
    _wait,
    engine_group,
    lacks,
    rank_group,
    reference_group,
    shared,
)


def nodes(*sizes: tuple[int, int]) -> list[Node]:
    """Nodes of (CPUs, GPUs)."""
    return [Node(str(i), f"10.0.0.{i}", cpus, gpus) for i, (cpus, gpus) in enumerate(sizes)]


def groups(engines: int = 2, ranks: int = 1, gpus: tuple[int, int] = (1, 1), cpus: tuple[int, int] = (1, 1)):
    """(engine, rank) sizes."""
    return [
        Group(RANKS, ranks, cpus[1], gpus[1], "learner.ranks"),
        Group(ENGINES, engines, cpus[0], gpus[0], "rollout.engines"),
    ]


def test_one_gpu_for_a_run_that_needs_three():
    assert lacks(groups(), nodes((8, 1))) == (
        "the run needs 3 GPUs: 1 for learner ranks, 2 for engines; the cluster has 1 on 1 node: "
        "lower learner.ranks or rollout.engines, add nodes or set cluster.device=cpu"
    )


def test_too_few_cpus():
    assert lacks(groups(gpus=(0, 0), cpus=(4, 2)), nodes((4, 0), (4, 0))) == (
        "the run needs 10 CPUs: 2 for learner ranks, 8 for engines; the cluster has 8 on 2 nodes: "
        "lower learner.ranks or rollout.engines or add nodes"
    )


def test_no_node_at_all():
    assert "the cluster has 0 on 0 nodes" in lacks(groups(gpus=(0, 0)), [])


def test_an_engine_larger_than_any_node():
    found = lacks(groups(engines=1, gpus=(4, 1)), nodes((8, 3), (8, 3)))
    assert found == (
        "each of the engines takes 4 GPUs of one node, and no node has more than 3: "
        "lower rollout.tensor_parallel_size, or add larger nodes"
    )
    found = lacks(groups(ranks=1, gpus=(0, 0), cpus=(1, 4)), nodes((3, 0), (3, 0)))
    assert "lower cluster.cpus_per_rank" in found


def test_enough_in_sum_but_in_the_wrong_pieces():
    found = lacks(groups(engines=2, ranks=0, gpus=(2, 1)), nodes((8, 3), (8, 1)))
    assert "not in pieces that fit (10.0.0.0 8 CPUs 3 GPUs, 10.0.0.1 8 CPUs 1 GPUs)" in found
    assert "2 engines take 1 CPU and 2 GPUs each" in found


@pytest.mark.parametrize(
    "cluster",
    [
        [(8, 3)],
        [(8, 2), (8, 1)],
        [(1, 1), (1, 1), (1, 1)],
        [(64, 0), (3, 3)],  # a head without GPUs
    ],
)
def test_clusters_that_fit(cluster):
    assert lacks(groups(), nodes(*cluster)) == ""


def test_small_actors_do_not_take_the_places_of_large_ones():
    assert lacks(groups(engines=1, gpus=(2, 1)), nodes((8, 2), (8, 1))) == ""


def test_actors_need_their_cpus_where_their_gpus_are():
    assert "not in pieces that fit" in lacks(groups(), nodes((64, 0), (2, 3)))


def test_bundles_of_a_run():
    settings = ["output.folder=unused", "rollout.engines=3", "rollout.tensor_parallel_size=2", "learner.ranks=2"]
    config = compose([*settings, "cluster.cpus_per_engine=4", "cluster.cpus_per_rank=5"])
    assert engine_group(config, "cuda").bundles == [{"CPU": 4.0, "GPU": 2.0}] * 3
    assert rank_group(config, "cuda").bundles == [{"CPU": 5.0, "GPU": 1.0}] * 2
    assert engine_group(config, "cpu").bundles == [{"CPU": 4.0}] * 3
    assert rank_group(config, "cpu").bundles == [{"CPU": 5.0}] * 2


def test_reference_actors_are_as_large_as_ranks_and_there_only_with_a_reference():
    settings = ["output.folder=unused", "cluster.cpus_per_rank=5", "reference.actors=2"]
    for place in ("loss", "reward"):
        config = compose([*settings, f"reference={place}"])
        assert reference_group(config, "cuda").bundles == [{"CPU": 5.0, "GPU": 1.0}] * 2
        assert reference_group(config, "cpu").bundles == [{"CPU": 5.0}] * 2
    assert reference_group(compose(settings), "cuda").bundles == []


def test_what_a_reference_needs_is_named():
    wanted = [*groups(), Group(REFERENCES, 2, 1, 1, "reference.actors")]
    assert lacks(wanted, nodes((8, 3))) == (
        "the run needs 5 GPUs: 1 for learner ranks, 2 for engines, 2 for reference actors; the cluster has 3 on 1 "
        "node: lower learner.ranks or rollout.engines or reference.actors, add nodes or set cluster.device=cpu"
    )
    assert lacks(wanted, nodes((8, 5))) == ""


def test_on_one_machine_nothing_is_reserved():
    assert shared(groups()) == {RANKS: [{"num_cpus": 0}], ENGINES: [{"num_cpus": 0}] * 2}


def test_every_actor_has_a_bundle_of_its_own():
    place = object()
    found = _options(groups(gpus=(2, 1), cpus=(3, 4))[1], place)
    assert [(each["num_cpus"], each["num_gpus"]) for each in found] == [(3, 2), (3, 2)]
    assert [each["scheduling_strategy"].placement_group_bundle_index for each in found] == [0, 1]
    assert all(each["scheduling_strategy"].placement_group is place for each in found)


class NeverReady:
    def wait(self, timeout_seconds):
        return False


def test_a_node_that_goes_while_the_run_waits_is_named(monkeypatch):
    seen = iter([nodes((2, 0), (4, 0)), nodes((2, 0))])
    last = nodes((2, 0))
    monkeypatch.setattr("launch.placement.cluster_nodes", lambda: next(seen, last))
    clock = iter([0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr("launch.placement.time.monotonic", lambda: next(clock))
    said: list[str] = []
    with pytest.raises(ClusterTooSmall) as refused:
        _wait(groups(engines=1, ranks=2, gpus=(0, 0), cpus=(1, 2)), [NeverReady()], 2.5, said.append)
    assert said[0].startswith("waiting for the cluster: 2 learner ranks take 2 CPUs each")
    assert str(refused.value) == (
        "after 2.5 s (cluster.start_timeout_s) node 10.0.0.1 (Ray's id 1) is gone; the run needs 5 CPUs: 4 for learner "
        "ranks, 1 for engines; the cluster has 2 on 1 node: lower learner.ranks or rollout.engines or add nodes"
    )
