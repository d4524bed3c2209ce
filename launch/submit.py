"""`python -m launch.submit [overrides]`: run `launch.train` as a job of a Ray cluster, and follow it to its end.

The working directory travels to the cluster, the job's output comes back as it is written, and the exit status is the
job's own. docs/clusters.md explains what the cluster has to have.
"""

import argparse
import asyncio
import logging
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.dashboard.modules.job.common import JobStatus
from ray.dashboard.modules.job.sdk import JobSubmissionClient
from ray.exceptions import AuthenticationError

from launch.cluster import offer_token
from launch.config import ConfigError, compose

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
# Ray's dashboard refuses a larger body, after the upload.
LARGEST_UPLOAD_BYTES = 100 << 20
EXCLUDES = ("/runs", "/multirun", ".git", ".venv", "venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")
CONNECT_S = 10.0
REQUEST_S = 60.0
LOST_S = 60.0
STOP_S = 30.0
REFUSED, FAILED, INTERRUPTED = 2, 1, 130


class SubmitError(RuntimeError):
    """The job could not be submitted or followed. The message says why, and what to change."""


class Client(JobSubmissionClient):
    """Ray's, which by itself would wait for an answer forever."""

    def _do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        return super()._do_request(*arguments, timeout=REQUEST_S, **options)


@dataclass(frozen=True)
class Options:
    """The command line of `launch.submit`."""

    address: str
    working_dir: Path | None
    python: str
    multirun: bool
    wait: bool
    stop_on_interrupt: bool
    overrides: tuple[str, ...]


def parse(arguments: Sequence[str]) -> Options:
    """The options among `arguments`; all others are overrides of the run."""
    parser = argparse.ArgumentParser(prog="python -m launch.submit", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("overrides", nargs="*", help="settings of the run, as for launch.train")
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep, as for launch.train")
    parser.add_argument("--address", help=f"the dashboard; else RAY_ADDRESS, else {DEFAULT_ADDRESS}")
    parser.add_argument("--working-dir", type=Path, help="what to upload; else this checkout, nothing where installed")
    parser.add_argument("--python", default=sys.executable, help="interpreter on the nodes; else the path of this one")
    parser.add_argument("--no-wait", action="store_true", help="leave once the job is submitted")
    parser.add_argument("--stop-on-interrupt", action="store_true", help="stop the job on Ctrl-C; else it goes on")
    given = parser.parse_intermixed_args(arguments)
    checkout = ROOT if (ROOT / "pyproject.toml").is_file() else None
    return Options(
        dashboard_url(given.address or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS),
        given.working_dir or checkout,
        given.python,
        given.multirun,
        not given.no_wait,
        given.stop_on_interrupt,
        tuple(given.overrides),
    )


def dashboard_url(address: str) -> str:
    """`address` with http:// in front where it has no scheme. Raises SubmitError for what is not a dashboard's."""
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or address == "auto":
        raise SubmitError(
            f"{address} is not the address of a dashboard, such as {DEFAULT_ADDRESS}: correct --address or RAY_ADDRESS"
        )
    return url.rstrip("/")


def entry_point(options: Options, cwd: Path, stamp: str) -> str:
    """The shell command of the job. Its output folder is absolute, because the job runs in a copy that Ray deletes."""
    command = [options.python, "-m", "launch.train", *(["--multirun"] if options.multirun else [])]
    key = "hydra.sweep.dir" if options.multirun else "output.folder"
    kind = "multirun" if options.multirun else "runs"
    given = [each.partition("=")[2].strip("'\"") for each in options.overrides if each.startswith(f"{key}=")]
    folder = str(cwd / (given[-1] if given else f"{kind}/{stamp}"))
    if not re.fullmatch(r"[\w./-]+", folder):
        folder = "'" + folder.replace("'", r"\'") + "'"  # else a part of Hydra's own grammar
    overrides = [each for each in options.overrides if not each.startswith(f"{key}=")]
    return shlex.join([*command, *overrides, f"{key}={folder}"])


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


def runtime_env(options: Options) -> dict[str, Any]:
    """What Ray prepares for the job on every node: a copy of the working directory."""
    if options.working_dir is None:
        return {}
    return {"working_dir": str(options.working_dir), "excludes": list(EXCLUDES)}


def exit_status(status: str, code: int | None) -> int:
    """The exit status for a job that ended: its own code; 128 + n for signal n, as a shell has it."""
    if status == JobStatus.SUCCEEDED:
        return 0
    if code is None:
        return FAILED
    return 128 - code if code < 0 else code or FAILED


def check(options: Options) -> None:
    """Find before the upload what can be found here. Raises ConfigError and SubmitError."""
    # A point of a sweep is known only to Hydra's sweeper, and another working directory may have settings of its own.
    if not options.multirun and options.working_dir == ROOT:
        compose(options.overrides)
    if options.working_dir is None:
        return
    if not options.working_dir.is_dir():
        raise SubmitError(f"--working-dir: there is no folder {options.working_dir}")
    if problem := too_large(options.working_dir.resolve()):
        raise SubmitError(problem)


def connect(address: str) -> JobSubmissionClient:
    """A client of the dashboard at `address`. Raises SubmitError."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), CONNECT_S).close()
    except OSError as error:
        raise SubmitError(
            f"no Ray dashboard answers at {address} ({error.strerror or error}): start the cluster with its dashboard, "
            "or correct --address or RAY_ADDRESS"
        ) from error
    # Both would win over the address that was asked for.
    os.environ.pop("RAY_API_SERVER_ADDRESS", None)
    os.environ.pop("RAY_ADDRESS", None)
    offer_token(os.environ)
    try:
        return Client(address)
    except AuthenticationError as error:
        raise SubmitError(
            f"the cluster at {address} asks for a token, and none or another one was sent: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH to the file that holds the cluster's"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, requests.RequestException) as error:
        raise SubmitError(f"what answers at {address} is not Ray's dashboard: {_first_line(error)}") from error


def submit(options: Options) -> int:
    """Submit the job, follow it, and return its exit status. Raises ConfigError and SubmitError."""
    check(options)
    client = connect(options.address)
    command = entry_point(options, Path.cwd(), time.strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        job = client.submit_job(entrypoint=command, runtime_env=runtime_env(options))
    except (RuntimeError, ConnectionError, requests.RequestException) as error:
        raise SubmitError(f"the cluster at {options.address} did not take the job: {_first_line(error)}") from error
    print(f"job {job} at {options.address}: {command}", flush=True)
    if not options.wait:
        return 0
    try:
        return follow(client, job)
    except KeyboardInterrupt:
        if options.stop_on_interrupt:
            stop(client, job)
        else:
            print(f"\njob {job} goes on; ray job logs --follow {job} shows it, ray job stop {job} stops it", flush=True)
        return INTERRUPTED


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's output as it is written, until it ends; returns its exit status.

    A lost connection is tried again for a minute. Raises SubmitError after that; the job may go on.
    """
    shown, lost = Shown(sys.stdout.write), 0.0
    while True:
        try:
            asyncio.run(shown.tail(client, job))
            info = client.get_job_info(job)
            lost = 0.0
        except (RuntimeError, OSError, requests.RequestException) as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > LOST_S:
                raise SubmitError(f"the cluster was lost while job {job} ran: {_first_line(error)}") from error
            time.sleep(1.0)
            continue
        if info.status.is_terminal():
            # What was written between the last look and the end.
            shown.all(client.get_job_logs(job))
            return _ended(job, info)
        time.sleep(0.5)


class Shown:
    """How much of a job's output has been printed: every new connection starts again at its beginning."""

    def __init__(self, write: Callable[[str], Any]):
        self._write, self._count = write, 0

    def all(self, text: str) -> None:
        """Print what is new in `text`, the whole output so far."""
        self._write(text[self._count :])
        sys.stdout.flush()
        self._count = max(self._count, len(text))

    async def tail(self, client: JobSubmissionClient, job: str) -> None:
        """Print what is new until the connection ends."""
        seen = 0
        async for text in client.tail_job_logs(job):
            seen += len(text)
            if seen > self._count:
                self._write(text[self._count - seen :])
                sys.stdout.flush()
                self._count = seen


def _ended(job: str, info: Any) -> int:
    status = exit_status(info.status, info.driver_exit_code)
    if status:
        # The message of a command that failed repeats the log that has just been shown.
        message = (info.message or "").partition(", last available logs")[0].strip()
        print(f"job {job} {info.status.value.lower()}: {message}", file=sys.stderr)
    return status


def stop(client: JobSubmissionClient, job: str) -> None:
    """Stop the job and wait until it has ended."""
    print(f"\nstopping job {job}", flush=True)
    client.stop_job(job)
    deadline = time.monotonic() + STOP_S
    while not client.get_job_status(job).is_terminal():
        if time.monotonic() > deadline:
            raise SubmitError(f"job {job} did not stop within {STOP_S:g} s; try ray job stop {job}")
        time.sleep(0.5)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def main(arguments: Sequence[str]) -> int:
    """Submit and follow; what cannot be done is a sentence on stderr and a status that is not 0."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        return submit(parse(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except SubmitError as error:
        print(error, file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
