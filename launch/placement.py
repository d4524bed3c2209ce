"""Which node holds which actor: what a run needs, what a cluster lacks, and holding the place until the run ends."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from launch.config import RunConfig

ENGINES, RANKS, REFERENCES = "engines", "learner ranks", "reference actors"
# Of an actor of each of two kinds in one place.
BOTH_CPUS = "cluster.cpus_per_engine or cluster.cpus_per_rank"
POLL_S = 1.0
# Fills a node before it takes the next one: ranks talk to each other at every update. Spills over instead of failing.
STRATEGY = "PACK"


class ClusterTooSmall(RuntimeError):
    """The cluster did not offer what the run needs within `cluster.start_timeout_s`."""


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has in all, whoever uses it."""

    id: str
    address: str
    cpus: int
    gpus: int


@dataclass(frozen=True)
class Group:
    """Actors of one kind. Each is on one node, with `cpus` and `gpus` of its own; `setting` says how many there are."""

    name: str
    count: int
    cpus: int
    gpus: int
    setting: str

    @property
    def bundles(self) -> list[dict[str, float]]:
        """One bundle of Ray's per actor."""
        sizes = {"CPU": float(self.cpus), "GPU": float(self.gpus)}
        return [{name: size for name, size in sizes.items() if size} for _ in range(self.count)]


def engine_group(config: RunConfig, device: str) -> Group:
    """The engines of a run."""
    gpus = config.rollout.tensor_parallel_size if device == "cuda" else 0
    return Group(ENGINES, config.rollout.engines, config.cluster.cpus_per_engine, gpus, "rollout.engines")


def rank_group(config: RunConfig, device: str) -> Group:
    """The learner ranks of a run."""
    gpus = 1 if device == "cuda" else 0
    return Group(RANKS, config.learner.ranks, config.cluster.cpus_per_rank, gpus, "learner.ranks")


def reference_group(config: RunConfig, device: str) -> Group:
    """The reference actors of a run, each of the size of a learner rank; none where it has no reference policy."""
    count = config.reference.actors if config.reference.place != "none" else 0
    gpus = 1 if device == "cuda" else 0
    return Group(REFERENCES, count, config.cluster.cpus_per_rank, gpus, "reference.actors")


def lacks(groups: Sequence[Group], nodes: Sequence[Node]) -> str:
    """Why `groups` cannot all be on `nodes` at once, with the settings to change; "" if they can."""
    for kind, amount in (("GPUs", "gpus"), ("CPUs", "cpus")):
        parts = {group.name: group.count * getattr(group, amount) for group in groups}
        if not any(parts.values()):
            continue
        there = sum(getattr(node, amount) for node in nodes)
        if sum(parts.values()) > there:
            spread = ", ".join(f"{number} for {name}" for name, number in parts.items() if number)
            return (
                f"the run needs {_count(sum(parts.values()), kind)}: {spread}; the cluster has {there} on "
                f"{_count(len(nodes), 'nodes')}: {_advice(groups, kind)}"
            )
        largest = max(groups, key=lambda group: getattr(group, amount))
        most = max(getattr(node, amount) for node in nodes)
        if getattr(largest, amount) > most:
            return (
                f"each of the {largest.name} takes {_count(getattr(largest, amount), kind)} of one node, and no node "
                f"has more than {most}: lower {_size_setting(largest, kind)}, or add larger nodes"
            )
    if not _fit(groups, nodes):
        sizes = ", ".join(f"{node.address} {node.cpus} CPUs {node.gpus} GPUs" for node in nodes)
        return (
            f"the nodes have enough in sum but not in pieces that fit ({sizes}); "
            f"{' and '.join(_pieces(group) for group in groups)}: {_advice(groups, 'nodes')}"
        )
    return ""


def _fit(groups: Sequence[Group], nodes: Sequence[Node]) -> bool:
    """First fit, the largest actors first."""
    free = [[node.gpus, node.cpus] for node in nodes]
    actors = [(group.gpus, group.cpus) for group in groups for _ in range(group.count)]
    for gpus, cpus in sorted(actors, reverse=True):
        place = next((node for node in free if node[0] >= gpus and node[1] >= cpus), None)
        if place is None:
            return False
        place[0] -= gpus
        place[1] -= cpus
    return True


def _advice(groups: Sequence[Group], kind: str) -> str:
    advice = [f"lower {' or '.join(dict.fromkeys(group.setting for group in groups))}", "add nodes"]
    if kind == "GPUs":
        advice.append("set cluster.device=cpu")
    return ", ".join(advice[:-1]) + f" or {advice[-1]}"


def _size_setting(group: Group, kind: str) -> str:
    if kind == "GPUs":
        return "rollout.tensor_parallel_size"
    if group.name == ENGINES:
        return "cluster.cpus_per_engine"
    return "cluster.cpus_per_rank" if group.name in (RANKS, REFERENCES) else BOTH_CPUS


def _pieces(group: Group) -> str:
    sizes = [_count(size, kind) for size, kind in ((group.cpus, "CPUs"), (group.gpus, "GPUs")) if size]
    return f"{group.count} {group.name} take {' and '.join(sizes)} each"


def _count(number: int, many: str) -> str:
    return f"{number} {many.removesuffix('s') if number == 1 else many}"


def cluster_nodes() -> list[Node]:
    """The nodes that are alive now, of the Ray this process is connected to."""
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


@contextmanager
def reserved(
    groups: Sequence[Group], limit_s: float, say: Callable[[str], None]
) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Hold a place for every actor; yields the Ray options of the actors of each group, by its name.

    Nodes that join while it waits are used. Raises ClusterTooSmall after `limit_s` seconds, with nothing held.
    """
    held: dict[str, PlacementGroup] = {}
    try:
        for group in groups:
            held[group.name] = placement_group(group.bundles, strategy=STRATEGY)
        _wait(groups, list(held.values()), limit_s, say)
        yield {group.name: _options(group, held[group.name]) for group in groups}
    finally:
        for place in held.values():
            remove_placement_group(place)


def shared(groups: Sequence[Group]) -> dict[str, list[dict[str, Any]]]:
    """Ray options of actors that share the cores of one machine, because they take turns."""
    return {group.name: [{"num_cpus": 0}] * group.count for group in groups}


def _options(group: Group, place: PlacementGroup) -> list[dict[str, Any]]:
    return [
        {
            "num_cpus": group.cpus,
            "num_gpus": group.gpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(place, placement_group_bundle_index=index),
        }
        for index in range(group.count)
    ]


def _wait(groups: Sequence[Group], places: list[PlacementGroup], limit_s: float, say: Callable[[str], None]) -> None:
    deadline, said = time.monotonic() + limit_s, ""
    seen: dict[str, Node] = {}
    while not all(place.wait(timeout_seconds=POLL_S) for place in places):
        nodes = cluster_nodes()
        seen |= {node.id: node for node in nodes}
        sentence = _left(seen, nodes) + (
            lacks(groups, nodes)
            or f"{' and '.join(_pieces(group) for group in groups)}; the cluster has them, but other jobs hold them"
        )
        if time.monotonic() > deadline:
            raise ClusterTooSmall(f"after {limit_s:g} s (cluster.start_timeout_s) {sentence}")
        if sentence != said:
            say(f"waiting for the cluster: {sentence}")
            said = sentence


def _left(seen: Mapping[str, Node], nodes: Sequence[Node]) -> str:
    """The nodes that were there and are not any more, as the beginning of a sentence."""
    gone = [seen[name] for name in seen.keys() - {node.id for node in nodes}]
    return "".join(f"node {node.address} (Ray's id {node.id[:12]}) is gone; " for node in gone)
