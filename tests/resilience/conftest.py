"""The run that nothing happens to."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.resilience.actors import left_behind, orphans
from tests.resilience.runs import SETTINGS, MarkedRun
from tests.resilience.sockets import listening

SECRETS = {
    "WANDB_API_KEY": "planted0wandb" + "a1" * 14,
    "HF_TOKEN": "hf_planted0hub" + "b2" * 12,
    "VERDICT_TOKEN": "planted0verdict" + "c3" * 12,
    "MLFLOW_TRACKING_PASSWORD": "planted0mlflow" + "d4" * 12,
    "RAY_AUTH_TOKEN": "e5" * 32,
}


@dataclass(frozen=True)
class Ended:
    """A run that came to its end, with secrets in its environment.

    sockets  that its processes listened on after its first step: name of the process, address, whether HTTP is spoken
    processes, segments, files  that it left: command lines, names of shared memory, temporary files
    """

    folder: Path
    said: str
    errors: str
    sockets: list[tuple[str, str, bool]]
    processes: list[str]
    segments: set[str]
    files: list[str]


@pytest.fixture(scope="session")
def ended() -> Iterator[Ended]:
    """Six steps at one go."""
    settings = (*SETTINGS, "logger=tensorboard", "reward.remote.token_variable=VERDICT_TOKEN")
    with tempfile.TemporaryDirectory(prefix="whole-", dir="/tmp", ignore_cleanup_errors=True) as path:
        # Short, because sockets lie below it.
        temporary, before = Path(path) / "t", orphans()
        temporary.mkdir()
        secrets = SECRETS | {"RAY_AUTH_MODE": "token"}
        with MarkedRun(Path(path) / "run", *settings, temporary=temporary, variables=secrets) as run:
            run.wait_for_step(1)
            sockets = listening(run.process.pid)
            assert run.wait() == 0, run.errors()
            left = left_behind(run.mark, 5)
            files = sorted(str(file.relative_to(temporary)) for file in temporary.rglob("*"))
            yield Ended(run.folder, run.said(), run.errors(), sockets, left, orphans() - before, files)


@pytest.fixture(scope="session")
def straight(ended: Ended) -> Path:
    return ended.folder
