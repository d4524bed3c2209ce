"""The points of a sweep on disk: which are finished, what became of the others, what is kept of earlier attempts.

A sweep's folder holds points.json, one run folder per point, and attempts/ with what earlier attempts left. The points
may be run by one process or by several.
"""

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from launch.config import ConfigError
from launch.run_folder import CONFIG, METRICS, SUMMARY

POINTS = "points.json"
ATTEMPTS = "attempts"
LOCK, LOCKS = ".lock", ".locks"
LOCK_S = 30.0
LONGEST_NAME = 80

FINISHED = "finished"
FAILED = "failed"  # started and could not go on
REFUSED = "refused"  # its settings cannot be used
UNFINISHED = "unfinished"  # running now, or it was killed meanwhile
# Begins the line that names a failed point in the output of a sweep; the next line says why it failed.
FAILED_MARK = "Failed: "


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
    """The folder of a sweep, and the record of its points. Several processes may write to it, each its own points.

    asked  names of the points recorded through this object; the folder may have more, of other commands

    Raises ConfigError where the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        self.asked: set[str] = set()
        try:
            (self.folder / LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(self.folder, error) from error

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep every other process from running the point `name`. Raises ConfigError where one is running it now."""
        with _lock(self.folder, self.folder / LOCKS / name, 0.0, f"another process is running {name} there."):
            yield

    def record(self, point: Point) -> None:
        """Write down what became of a point; it replaces what was written about it before."""
        self.asked.add(point.name)
        with locked(self.folder):
            known = read_points(self.folder) if (self.folder / POINTS).is_file() else []
            points = {each.name: each for each in known} | {point.name: point}
            temporary = self.folder / f"{POINTS}.tmp"
            temporary.write_text(json.dumps([asdict(each) for each in points.values()], indent=2) + "\n")
            os.replace(temporary, self.folder / POINTS)

    def set_aside(self, name: str) -> Path | None:
        """Move what an earlier attempt at the point left into attempts/; returns where, None where there is nothing.

        A folder in which no run has started is left where it is.
        """
        left = self.folder / name
        if not any((left / file).is_file() for file in (CONFIG, METRICS, SUMMARY)):
            return None
        with locked(self.folder):
            attempts = self.folder / ATTEMPTS
            attempts.mkdir(exist_ok=True)
            kept = attempts / f"{name}.{1 + sum(1 for _ in attempts.glob(f'{name}.*'))}"
            left.rename(kept)
        return kept


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the record and the folders of the sweep in `folder` as they are for a moment: nobody else changes them.

    Raises ConfigError where the folder cannot be written, or others do not let go of it.
    """
    with _lock(folder, folder / LOCK, LOCK_S, f"another process has held {LOCK} for {LOCK_S:g} s."):
        yield


@contextmanager
def _lock(folder: Path, file: Path, limit_s: float, otherwise: str) -> Iterator[None]:
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        deadline = time.monotonic() + limit_s
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                raise ConfigError(f"hydra.sweep.dir={folder}: {otherwise}")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _not_writable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"hydra.sweep.dir={folder} cannot be written ({error.strerror}).")


def points_file(folder: str | os.PathLike) -> Path:
    """The record of the sweep in `folder`. Raises ConfigError where it holds none."""
    file = Path(folder) / POINTS
    if not file.is_file():
        raise ConfigError(f"{folder} holds no {POINTS}, so it is not the folder of a sweep that has started.")
    return file


def read_points(folder: str | os.PathLike) -> list[Point]:
    """The points of the sweep in `folder`, in the order they were first run. Raises ConfigError where it holds none."""
    entries = json.loads(points_file(folder).read_text())
    return [Point(**{**entry, "overrides": tuple(entry["overrides"])}) for entry in entries]


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
