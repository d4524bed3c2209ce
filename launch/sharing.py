"""GPUs that an engine and a learner rank share: one place for both, and what each of the two asks Ray for in it."""

from collections.abc import Mapping
from typing import Any

from launch.config import ConfigError, RunConfig
from launch.placement import ENGINES, RANKS, Group

PAIRS = "engines with a learner rank"


def sharing_groups(config: RunConfig) -> list[Group]:
    """Pairs of engine i and rank i on one GPU, with the CPUs of both, and ranks without an engine."""
    engines, ranks, cluster = config.rollout.engines, config.learner.ranks, config.cluster
    return [
        Group(PAIRS, engines, cluster.cpus_per_engine + cluster.cpus_per_rank, 1, "learner.ranks"),
        Group(RANKS, ranks - engines, cluster.cpus_per_rank, 1, "learner.ranks"),
    ]


def by_actor(config: RunConfig, held: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Ray options of engines and of ranks from those of `sharing_groups`; others are as they were.

    Half a GPU each: Ray then lets two actors in, and shows both the one GPU of their bundle.
    """
    if PAIRS not in held:
        return dict(held)
    found = {name: options for name, options in held.items() if name != PAIRS}
    halves = [{**options, "num_gpus": options["num_gpus"] / 2} for options in held[PAIRS]]
    found[ENGINES] = [{**half, "num_cpus": config.cluster.cpus_per_engine} for half in halves]
    pairs = [{**half, "num_cpus": config.cluster.cpus_per_rank} for half in halves]
    found[RANKS] = pairs + found.get(RANKS, [])
    return found


def refuse_without_gpus(config: RunConfig, device: str) -> None:
    """Raise ConfigError where there is nothing to share."""
    if config.rollout.colocated and device == "cpu":
        raise ConfigError(
            "rollout.colocated has engines and learner ranks share GPUs, and the run is on cpu, where engines cannot "
            "sleep; give rollout.colocated=false."
        )
