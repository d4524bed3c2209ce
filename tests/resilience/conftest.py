"""The run that nothing happens to."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.resilience.runs import SETTINGS, run


@pytest.fixture(scope="session")
def straight() -> Iterator[Path]:
    """Six steps at one go."""
    with tempfile.TemporaryDirectory(prefix="resume-", dir="/tmp", ignore_cleanup_errors=True) as path:
        done = run(f"output.folder={path}/run", *SETTINGS)
        assert done.returncode == 0, done.stderr
        yield Path(path) / "run"
