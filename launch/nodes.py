"""Files on other nodes: nothing is assumed to be shared, so they travel through Ray."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

CHUNK_BYTES = 64 << 20


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
        strategy = NodeAffinitySchedulingStrategy(place.id, soft=False)
        task: Any = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
        return ray.get(task.remote(*arguments), timeout=timeout_s)

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
