"""One log file per actor."""

import os
import sys
from pathlib import Path
from typing import Any

import ray


def log_to_files(actors: dict[str, Any], folder: Path, timeout_s: float) -> None:
    """Send what each actor prints from now on, and its children print, to `<folder>/<name>.log`."""
    calls = [actor.__ray_call__.remote(_redirect, str(folder / f"{name}.log")) for name, actor in actors.items()]
    ray.get(calls, timeout=timeout_s)


def _redirect(_actor: Any, path: str) -> None:
    # Descriptors 1 and 2, because C++ code and child processes print there too.
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def tail(folder: Path, lines: int) -> str:
    """The last lines of the log that was written to last, for an error message; empty where there is none."""
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return ""
    text = logs[-1].read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"last lines of {logs[-1]}:", *text])
