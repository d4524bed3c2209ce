"""The working directory that travels to a cluster with a job: what of it travels, and whether that is too much."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

# Ray's dashboard refuses a larger body, after the upload.
LARGEST_UPLOAD_BYTES = 100 << 20
EXCLUDES = ("/runs", "/multirun", ".git", ".venv", "venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")


def runtime_env(folder: Path | None) -> dict[str, Any]:
    """What Ray prepares for the job on every node: a copy of `folder`, or nothing."""
    return {} if folder is None else {"working_dir": str(folder), "excludes": list(EXCLUDES)}


def too_large(folder: Path) -> str:
    """Why `folder` cannot be uploaded, with its largest files; "" where it can."""
    sizes = {path: path.stat().st_size for path in uploaded(folder)}
    total = sum(sizes.values())
    if total <= LARGEST_UPLOAD_BYTES:
        return ""
    largest = sorted(sizes, key=lambda path: -sizes[path])[:5]
    names = ", ".join(f"{path.relative_to(folder)} ({sizes[path] / 2**20:.0f} MiB)" for path in largest)
    return (
        f"the working directory {folder} holds {total / 2**20:.0f} MiB, and Ray takes {LARGEST_UPLOAD_BYTES >> 20}. "
        f"Its largest files: {names}. Name them in .gitignore or .rayignore, and put data and models on the nodes."
    )


def uploaded(folder: Path) -> list[Path]:
    """The files that Ray would upload of `folder`, by its own rules."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    files: list[Path] = []
    honour_gitignore = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") != "1"
    excluded = [_get_excludes(folder, list(EXCLUDES))]
    quiet = logging.getLogger(f"{__name__}.quiet")
    quiet.setLevel(logging.WARNING)
    _dir_travel(folder, excluded, files.append, honour_gitignore, quiet)
    return [path for path in files if path.is_file()]


def copy_uploaded(folder: Path, to: Path) -> None:
    """Copy into the empty folder `to` what would be uploaded of `folder`."""
    for path in uploaded(folder):
        place = to / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
