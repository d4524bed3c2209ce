"""`python -m launch.submit [overrides]`: run `launch.train` as a job of a Ray cluster, and follow it to its end.

The working directory travels to the cluster, the job's output comes back as it is written, and the exit status is the
job's own. With `--multirun` every point of the sweep is a job. docs/clusters.md explains what the cluster has to have.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.config import ConfigError, compose
from launch.job_client import (
    DEFAULT_ADDRESS,
    FAILED,
    INTERRUPTED,
    REFUSED,
    SubmitError,
    connect,
    dashboard_url,
    follow,
    new_id,
    start,
    stop,
)
from launch.job_command import train_command
from launch.submit_sweep import plan, run_sweep
from launch.upload import copy_uploaded, runtime_env, too_large

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "output.folder"


@dataclass(frozen=True)
class Options:
    """The command line of `launch.submit`."""

    address: str
    working_dir: Path | None
    python: str
    multirun: bool
    at_once: int
    wait: bool
    stop_on_interrupt: bool
    overrides: tuple[str, ...]


def parse(arguments: Sequence[str]) -> Options:
    """The options among `arguments`; all others are overrides of the run."""
    parser = argparse.ArgumentParser(prog="python -m launch.submit", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("overrides", nargs="*", help="settings of the run, as for launch.train")
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep, as for launch.train; a job per point")
    parser.add_argument(
        "--at-once", type=int, metavar="N", default=1, help="jobs of a sweep that may run at a time; else %(default)s"
    )
    parser.add_argument("--address", help=f"the dashboard; else RAY_ADDRESS, else {DEFAULT_ADDRESS}")
    parser.add_argument("--working-dir", type=Path, help="what to upload; else this checkout, nothing where installed")
    parser.add_argument("--python", default=sys.executable, help="interpreter on the nodes; else the path of this one")
    parser.add_argument("--no-wait", action="store_true", help="leave once the job is submitted")
    parser.add_argument("--stop-on-interrupt", action="store_true", help="stop the jobs on Ctrl-C; else they go on")
    given = parser.parse_intermixed_args(arguments)
    if given.at_once < 1:
        parser.error(f"--at-once={given.at_once} has to be at least 1")
    if given.at_once > 1 and not given.multirun:
        parser.error("--at-once is of a sweep: add --multirun")
    if given.multirun and given.no_wait:
        parser.error("--no-wait cannot be had with --multirun: who leaves cannot start the later points of a sweep")
    checkout = ROOT if (ROOT / "pyproject.toml").is_file() else None
    return Options(
        dashboard_url(given.address or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS),
        given.working_dir or checkout,
        given.python,
        given.multirun,
        given.at_once,
        not given.no_wait,
        given.stop_on_interrupt,
        tuple(given.overrides),
    )


def entry_point(options: Options, cwd: Path, stamp: str) -> str:
    """The shell command of the job. Its output folder is absolute, because the job runs in a copy that Ray deletes."""
    given = [each.partition("=")[2].strip("'\"") for each in options.overrides if each.startswith(f"{FOLDER}=")]
    overrides = [each for each in options.overrides if not each.startswith(f"{FOLDER}=")]
    return train_command(options.python, overrides, FOLDER, str(cwd / (given[-1] if given else f"runs/{stamp}")))


def check_upload(folder: Path | None) -> None:
    """Raise SubmitError where the working directory is not there or too large."""
    if folder is None:
        return
    if not folder.is_dir():
        raise SubmitError(f"--working-dir: there is no folder {folder}")
    if problem := too_large(folder.resolve()):
        raise SubmitError(problem)


def submit(options: Options) -> int:
    """Submit the job, follow it, and return its exit status. Raises ConfigError and SubmitError."""
    # Another working directory may have settings of its own.
    if options.working_dir == ROOT:
        compose(options.overrides)
    check_upload(options.working_dir)
    client = connect(options.address)
    command = entry_point(options, Path.cwd(), time.strftime("%Y-%m-%d_%H-%M-%S"))
    job = new_id("run")
    try:
        start(client, job, command, runtime_env(options.working_dir), {})
        print(f"job {job} at {options.address}: {command}", flush=True)
        return follow(client, job) if options.wait else 0
    except KeyboardInterrupt:
        print(flush=True)
        if options.stop_on_interrupt:
            stop(client, [job])
        else:
            print(f"job {job} goes on; ray job logs --follow {job} shows it, ray job stop {job} stops it", flush=True)
        return INTERRUPTED


def submit_sweep(options: Options) -> int:
    """Submit the points of a sweep, wait for them, and return its exit status. Raises ConfigError and SubmitError."""
    default = f"multirun/{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    planned = plan(options.overrides, Path.cwd(), default, options.working_dir == ROOT)
    check_upload(options.working_dir)
    client = connect(options.address)
    with tempfile.TemporaryDirectory(prefix="entrain-") as copy:
        # Points that start hours later run the code as it is now.
        if options.working_dir is not None:
            copy_uploaded(options.working_dir.resolve(), Path(copy))
        environment = runtime_env(Path(copy) if options.working_dir is not None else None)
        return run_sweep(client, planned, options.python, environment, options.at_once, options.stop_on_interrupt)


def main(arguments: Sequence[str]) -> int:
    """Submit and follow; what cannot be done is a sentence on stderr and a status that is not 0."""
    # The last two set levels of their own, and would tell of every upload between the events of a sweep.
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        options = parse(arguments)
        return submit_sweep(options) if options.multirun else submit(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except SubmitError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
