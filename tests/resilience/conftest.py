"""The run that nothing happens to."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.resilience.actors import left_behind, orphans
from tests.resilience.runs import SETTINGS, run


@dataclass(frozen=True)
class Ended:
    """A run that came to its end, and the processes, segments of shared memory and temporary files that it left."""

    folder: Path
    processes: list[str]
    segments: set[str]
    files: list[str]


@pytest.fixture(scope="session")
def ended() -> Iterator[Ended]:
    """Six steps at one go."""
    with tempfile.TemporaryDirectory(prefix="resume-", dir="/tmp", ignore_cleanup_errors=True) as path:
        # Short, because sockets lie below it.
        temporary, before = Path(path) / "t", orphans()
        temporary.mkdir()
        done = run(f"output.folder={path}/run", *SETTINGS, mark=path, temporary=temporary)
        assert done.returncode == 0, done.stderr
        left = left_behind(path, 5)
        files = sorted(str(file.relative_to(temporary)) for file in temporary.rglob("*"))
        yield Ended(Path(path) / "run", left, orphans() - before, files)


@pytest.fixture(scope="session")
def straight(ended: Ended) -> Path:
    return ended.folder
