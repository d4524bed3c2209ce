"""Other nodes: which actor is on which, whether they are still there, and their files.

Nothing is assumed to be shared, so files travel through Ray.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

CHUNK_BYTES = 64 << 20
POLL_S = 1.0
# Ray gives a node up after 15 s without a heartbeat.
SILENT_S = 20.0


@dataclass(frozen=True)
class Place:
    """A node: Ray's id of it, and its address."""

    id: str
    address: str


def here(_actor: Any = None) -> Place:
    """The node this process is on."""
    return Place(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address())


def where(actors: Mapping[str, Any], timeout_s: float) -> dict[str, Place]:
    """The node of each actor."""
    calls = [actor.__ray_call__.remote(here) for actor in actors.values()]
    return dict(zip(actors, ray.get(calls, timeout=timeout_s), strict=True))


def planned(names: str, options: Sequence[Mapping[str, Any]]) -> dict[str, Place]:
    """The node where each actor's place is held, for actors `<names>-0`, `<names>-1`, ... with these Ray options."""
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    found = {}
    for index, option in enumerate(options):
        strategy = option.get("scheduling_strategy")
        if isinstance(strategy, PlacementGroupSchedulingStrategy):
            bundles = placement_group_table(strategy.placement_group)["bundles_to_node_id"]
            node = bundles[strategy.placement_group_bundle_index]
            found[f"{names}-{index}"] = Place(node, addresses.get(node, "unknown"))
    return found


def not_up(actors: Mapping[str, Any], places: Mapping[str, Place], timeout_s: float) -> str:
    """Why `actors`, which are to run on `places`, do not all come up, in a sentence; "" once they are up.

    Left to itself, Ray would let an actor wait for its place on a node that is gone. Raises Ray's errors.
    """
    pending = {actor.__ray_ready__.remote(): name for name, actor in actors.items()}
    deadline = time.monotonic() + timeout_s
    while pending:
        done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=POLL_S)
        ray.get(done, timeout=timeout_s)
        pending = {call: name for call, name in pending.items() if call not in done}
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if stranded := [name for name in pending.values() if name in places and places[name].id not in alive]:
            return f"{', '.join(stranded)} did not come up"
        if pending and time.monotonic() > deadline:
            return f"{', '.join(pending.values())} did not come up in {timeout_s:g} s (cluster.start_timeout_s)"
    return ""


def name_losses(error: BaseException, places: Mapping[str, Place]) -> None:
    """Add to `error` a note with the nodes that are gone, if any are, and the actors of `places` that were there."""
    if isinstance(error, Exception) and (sentence := lost(places, SILENT_S)):
        error.add_note(sentence)


def lost(places: Mapping[str, Place], timeout_s: float) -> str:
    """A sentence with the nodes in `places` (by actor) that are gone, or silent for `timeout_s`; "" for none."""
    nodes = {place.id: place for place in places.values() if place.id != here().id}
    calls = {_there(place, _answer).remote(): place for place in nodes.values()}
    if calls:
        ray.wait(list(calls), num_returns=len(calls), timeout=timeout_s)
    return "; ".join(
        f"node {place.address} (Ray's id {place.id[:12]}) is gone, and with it "
        f"{', '.join(name for name, other in places.items() if other.id == place.id)}"
        for call, place in calls.items()
        if not _has_answered(call)
    )


def _answer() -> None:
    pass


def _has_answered(call: Any) -> bool:
    try:
        ray.get(call, timeout=0)
    except ray.exceptions.RayError:
        return False
    return True


def _there(place: Place, function: Any) -> Any:
    """`function` as a task of Ray that runs on that node, or fails."""
    strategy = NodeAffinitySchedulingStrategy(place.id, soft=False)
    task: Any = ray.remote(function)
    return task.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)


def model_missing(setting: str, actors: Mapping[str, Any], path: str, timeout_s: float) -> str:
    """A sentence that names the nodes of `actors` without the model folder `path`; "" where all have it.

    setting  the one that says where the model is
    """
    places = where(actors, timeout_s)
    calls = [actor.__ray_call__.remote(_has_model, path) for actor in actors.values()]
    found = dict(zip(actors, ray.get(calls, timeout=timeout_s), strict=True))
    lacking: dict[str, list[str]] = {}
    for name, place in places.items():
        if not found[name]:
            lacking.setdefault(place.address, []).append(name)
    if not lacking:
        return ""
    nodes = ", ".join(f"{address} ({', '.join(names)})" for address, names in lacking.items())
    return f"{setting}={path} is not on node {nodes}: copy it there, or give a folder that all nodes share"


def _has_model(_actor: Any, path: str) -> bool:
    return (Path(path) / "config.json").is_file()


def new_folder(_actor: Any = None) -> str:
    """An empty folder on this node, for files that wait to be fetched."""
    return tempfile.mkdtemp(prefix="entrain-")


def fetch(place: Place, folder: str, target: Path, timeout_s: float) -> None:
    """Move everything in `folder` of another node into `target`, in chunks; `timeout_s` bounds every chunk.

    Raises Ray's errors and its GetTimeoutError.
    """

    def there(function: Any, *arguments: Any) -> Any:
        return ray.get(_there(place, function).remote(*arguments), timeout=timeout_s)

    for name, size in there(_files, folder):
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "wb") as out:
            for start in range(0, size, CHUNK_BYTES):
                out.write(there(_read, str(Path(folder) / name), start, min(CHUNK_BYTES, size - start)))
    there(_remove, folder)


def _files(folder: str) -> list[tuple[str, int]]:
    root = Path(folder)
    return [(str(file.relative_to(root)), file.stat().st_size) for file in root.rglob("*") if file.is_file()]


def _read(path: str, start: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(size)


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
