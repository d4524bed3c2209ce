"""One log file per actor, in the run folder at the end wherever the actor ran."""

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import ray

from launch.nodes import Place, fetch, here, new_folder

COLLECT_S = 30.0

_own_folder = cache(new_folder)


class ActorLogs:
    """Where the actors' logs are.

    places  the node of each actor
    """

    def __init__(self, folder: Path, found: Mapping[str, tuple[Place, str]]):
        """`found` has the node and the folder of each actor's log."""
        self.places = {name: place for name, (place, _) in found.items()}
        self._folder = folder
        self._remote = {name: (place, path) for name, (place, path) in found.items() if path != str(folder)}

    def collect(self) -> None:
        """Move the logs of other nodes into the folder. A node that is gone leaves a sentence in place of its log."""
        remote, self._remote = self._remote, {}
        for name, (place, folder) in remote.items():
            try:
                fetch(place, folder, self._folder, COLLECT_S)
            except ray.exceptions.RayError as error:
                reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                (self._folder / f"{name}.log").write_text(f"lost with node {place.address}: {reason}\n")


def log_to_files(actors: Mapping[str, Any], folder: Path, timeout_s: float) -> ActorLogs:
    """Send what each actor prints from now on, and its children print, to `<folder>/<name>.log`.

    An actor on another node writes there, until `collect`.
    """
    driver = here()
    calls = [actor.__ray_call__.remote(_redirect, driver, str(folder), name) for name, actor in actors.items()]
    found = dict(zip(actors, ray.get(calls, timeout=timeout_s), strict=True))
    return ActorLogs(folder, found)


def _redirect(_actor: Any, driver: Place, folder: str, name: str) -> tuple[Place, str]:
    return redirect(driver, folder, name)


def log_reward_worker(driver: Place, folder: str, index: int) -> None:
    """`redirect` for a reward worker, whose children inherit what is open when they start."""
    redirect(driver, folder, f"reward-{index}")


def redirect(driver: Place, folder: str, name: str) -> tuple[Place, str]:
    """Send what this process prints from now on, and its children, to `<name>.log`; returns where.

    That is in `folder` on the driver's node, and in a folder of its own on another. May be called again.
    """
    place = here()
    folder = folder if place.id == driver.id else _own_folder()
    # Descriptors 1 and 2, because C++ code and child processes print there too.
    Path(folder).mkdir(parents=True, exist_ok=True)
    log = os.open(Path(folder) / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return place, folder
