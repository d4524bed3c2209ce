"""The points of a sweep on disk: which are finished, what became of the others, what is kept of earlier attempts.

A sweep's folder holds points.json, one run folder per point, and attempts/ with what earlier attempts left.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from launch.config import ConfigError
from launch.run_folder import CONFIG, METRICS, SUMMARY

POINTS = "points.json"
ATTEMPTS = "attempts"
LONGEST_NAME = 80

FINISHED = "finished"
FAILED = "failed"  # started and could not go on
REFUSED = "refused"  # its settings cannot be used
UNFINISHED = "unfinished"  # running now, or the sweep was killed meanwhile


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    name       its folder under the sweep's
    overrides  setting=value, as on the command line
    error      why it did not finish; None where it did
    """

    name: str
    overrides: tuple[str, ...]
    status: str
    error: str | None


class Sweep:
    """The folder of a sweep, and the record of its points. One process at a time may hold it.

    asked  names of the points recorded through this object; the folder may have more, of earlier commands

    Raises ConfigError where the folder cannot be written or another sweep runs in it.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR)
        except OSError as error:
            raise ConfigError(f"hydra.sweep.dir={self.folder} cannot be written ({error.strerror}).") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"hydra.sweep.dir={self.folder}: another sweep is running there.") from error
        self.asked: set[str] = set()
        self._points = {p.name: p for p in read_points(self.folder)} if (self.folder / POINTS).exists() else {}

    def record(self, point: Point) -> None:
        """Write down what became of a point; it replaces what was written about it before."""
        self.asked.add(point.name)
        self._points[point.name] = point
        temporary = self.folder / f"{POINTS}.tmp"
        temporary.write_text(json.dumps([asdict(p) for p in self._points.values()], indent=2) + "\n")
        os.replace(temporary, self.folder / POINTS)

    def set_aside(self, name: str) -> Path | None:
        """Move what an earlier attempt at the point left into attempts/; returns where, None where there is nothing.

        A folder in which no run has started is left where it is.
        """
        left = self.folder / name
        if not any((left / file).is_file() for file in (CONFIG, METRICS, SUMMARY)):
            return None
        attempts = self.folder / ATTEMPTS
        attempts.mkdir(exist_ok=True)
        kept = attempts / f"{name}.{1 + sum(1 for _ in attempts.glob(f'{name}.*'))}"
        left.rename(kept)
        return kept

    def close(self) -> None:
        os.close(self._lock)


def read_points(folder: str | os.PathLike) -> list[Point]:
    """The points of the sweep in `folder`, in the order they were first run. Raises ConfigError where it holds none."""
    file = Path(folder) / POINTS
    if not file.is_file():
        raise ConfigError(f"{folder} holds no {POINTS}, so it is not the folder of a sweep that has started.")
    return [Point(**{**entry, "overrides": tuple(entry["overrides"])}) for entry in json.loads(file.read_text())]


def is_finished(folder: Path, config_hash: str) -> bool:
    """Whether `folder` holds a finished run of exactly these settings."""
    if not (folder / SUMMARY).is_file():
        return False
    summary = json.loads((folder / SUMMARY).read_text())
    return summary["status"] == FINISHED and summary["config_hash"] == config_hash


def point_name(overrides: Sequence[str]) -> str:
    """The folder of a point: the same for the same overrides, different for different ones, and readable.

    It does not depend on the other points, so a sweep can be continued with more of them.
    """
    plain = "_".join(override.replace("=", "-", 1) for override in sorted(overrides))
    name = re.sub(r"[^\w.-]+", "-", plain)
    if not name.strip(".-"):
        return "point"
    if name == plain and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}.{hashlib.sha256(plain.encode()).hexdigest()[:6]}"
