"""What a process can tell about the Ray job it may be part of, without Ray."""

from collections.abc import Mapping
from pathlib import Path

# Ray sets it for the command of a submitted job, and for nothing else.
JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
COPIES = "working_dir_files"


def in_ray_job(environ: Mapping[str, str]) -> bool:
    """Whether this process is the command of a job submitted to a Ray cluster."""
    return JOB_MARK in environ


def address_to_join(kind: str, address: str | None, environ: Mapping[str, str]) -> str | None:
    """Address of the cluster that `cluster.kind` and `cluster.address` mean; None for a private Ray on this machine."""
    known = environ.get("RAY_ADDRESS")
    if kind == "local" or (kind == "auto" and not in_ray_job(environ)):
        return None
    return known if known and address in (None, "auto") else address or "auto"


def is_copy(folder: Path) -> bool:
    """Whether `folder` lies in the copy of a working directory that Ray unpacked for a job, and will delete."""
    return COPIES in folder.parts


def output_root(cwd: Path, home: Path) -> str:
    """What goes before the default output folders: nothing, or the home folder where Ray would delete what is here."""
    return f"{home}/" if is_copy(cwd) else ""
