"""A sweep on a Ray cluster: every point is a job of its own, and so many of them run at a time.

The folder of the sweep may be on the cluster alone. So each job runs `launch.train --multirun` with a single point,
which finds out there whether the point is finished, and records what becomes of it. A last job prints the table.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException
from ray.dashboard.modules.job.common import JobInfo
from ray.dashboard.modules.job.sdk import JobSubmissionClient

from launch.config import CONF, ENTRY, HYDRA_VERSION, ConfigError, RunConfig, register
from launch.job_client import (
    INTERRUPTED,
    SubmitError,
    ending,
    exit_status,
    first_line,
    follow,
    killed,
    log_of,
    new_id,
    patiently,
    start,
    stop,
)
from launch.job_client import REFUSED as REFUSED_STATUS
from launch.job_command import table_command, train_command
from launch.misspelt import explain
from launch.points import FAILED, FAILED_MARK, FINISHED, REFUSED, Point, point_name
from launch.sweep import exit_status as sweep_exit_status
from launch.sweep import named, shared_by

FOLDER = "hydra.sweep.dir"
LOOK_S = 1.0


@dataclass(frozen=True)
class Plan:
    """What a sweep runs.

    folder  absolute, on the node where the commands of jobs run
    hydra   overrides of Hydra's own settings, for every point
    points  name and overrides of every point, in order
    """

    folder: str
    hydra: tuple[str, ...]
    points: dict[str, tuple[str, ...]]

    def labels(self) -> dict[str, str]:
        """What each point is called in what is printed, by its name."""
        shared = shared_by(list(self.points.values()))
        return {name: named(overrides, shared) for name, overrides in self.points.items()}


def plan(overrides: Sequence[str], cwd: Path, default: str, composed: bool) -> Plan:
    """The points that `launch.train --multirun` would run with `overrides`, by Hydra's own rules.

    default   folder of the sweep, relative to `cwd`, where `overrides` name none
    composed  whether the settings are those of this checkout, so that every point can be composed here

    Raises ConfigError where an override cannot be read, is no setting, or makes no sense for a sweep.
    """
    register()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base=HYDRA_VERSION, job_name="entrain"):
            loader = GlobalHydra.instance().config_loader()
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
            settings = [each for each in parsed if not each.is_hydra_override()]
            found = BasicSweeper.split_arguments(settings, max_batch_size=None)[0]
            if composed:
                whole = GlobalHydra.instance().hydra
                assert whole is not None
                master = whole.compose_config(ENTRY, list(overrides), RunMode.MULTIRUN)
                for point in found:
                    loader.load_sweep_config(master, list(point))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, RunConfig, CONF)) from error
    if any(each.key_or_group == "output.folder" for each in settings):
        raise ConfigError("output.folder is the folder of one run; for a sweep give hydra.sweep.dir=...")
    folders = [each for each in parsed if each.key_or_group == FOLDER]
    if any(each.is_sweep_override() or "${" in str(each.value()) for each in folders):
        raise ConfigError(f"{folders[-1].input_line}: all points share one folder; give it without ${{...}} and comma.")
    return Plan(
        folder=str(cwd / (str(folders[-1].value()) if folders else default)),
        hydra=tuple(str(e.input_line) for e in parsed if e.is_hydra_override() and e not in folders),
        points={point_name(point): tuple(point) for point in found},
    )


class Jobs(Protocol):
    """The cluster, as a schedule needs it."""

    def start(self, job: str, name: str) -> None:
        """Start the point `name` as the job of that ID."""

    def outcome(self, job: str, name: str) -> Point | None:
        """What became of the point; None while its job runs."""


class Schedule:
    """Runs points in order, at most `at_once` at a time; one that fails does not stop the others.

    labels   what each point is called in what is said, by its name
    waiting  names of the points not started yet
    running  job ID and name of the points that run
    ended    job ID and outcome of the others
    """

    def __init__(self, labels: Mapping[str, str], at_once: int, jobs: Jobs):
        self.labels, self.waiting = labels, deque(labels)
        self.running: dict[str, str] = {}
        self.ended: dict[str, Point] = {}
        self._at_once, self._jobs = at_once, jobs

    def run(self, say: Callable[[str], None], pause: Callable[[], None]) -> None:
        """Run them all; `say` is called with a line for each event, `pause` between two looks at the jobs."""
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self._at_once:
                self._start(self.waiting.popleft(), say)
            pause()
            for job, name in list(self.running.items()):
                if point := self._jobs.outcome(job, name):
                    del self.running[job]
                    self.ended[job] = point
                    say(f"{self.labels[name]}: {point.status}" + (f": {point.error}" if point.error else ""))

    def _start(self, name: str, say: Callable[[str], None]) -> None:
        job = new_id(self.labels[name])
        # Before it is asked for: whoever is interrupted meanwhile has to know of it.
        self.running[job] = name
        self._jobs.start(job, name)
        say(f"{self.labels[name]}: started as job {job}")


class ClusterJobs:
    """The points of a plan as jobs of a cluster."""

    def __init__(self, client: JobSubmissionClient, plan: Plan, python: str, environment: dict[str, Any]):
        self._client, self._plan, self._python, self._environment = client, plan, python, environment

    def start(self, job: str, name: str) -> None:
        arguments = ["--multirun", *self._plan.hydra, *self._plan.points[name]]
        command = train_command(self._python, arguments, FOLDER, self._plan.folder)
        start(self._client, job, command, self._environment, {"sweep": self._plan.folder, "point": name})

    def outcome(self, job: str, name: str) -> Point | None:
        info = patiently(lambda: self._client.get_job_info(job), f"job {job} ran")
        if not info.status.is_terminal():
            return None
        # Without an exit code the command never ran or was stopped, and its output does not say why.
        log = log_of(self._client, job) if info.driver_exit_code else ""
        return outcome_of(name, self._plan.points[name], info, log)


def outcome_of(name: str, overrides: tuple[str, ...], info: JobInfo, log: str) -> Point:
    """What became of a point whose job has ended, with the first line of the reason where it failed."""
    code = exit_status(info.status, info.driver_exit_code)
    if code == 0:
        return Point(name, overrides, FINISHED, None)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line for mark, line in pairwise(lines) if mark.startswith(FAILED_MARK)]
    error = f"the job {killed(info)}" if killed(info) else (said or lines)[-1] if lines else first_line(ending(info))
    return Point(name, overrides, REFUSED if code == REFUSED_STATUS else FAILED, error)


def run_sweep(
    client: JobSubmissionClient, plan: Plan, python: str, environment: dict[str, Any], at_once: int, stopping: bool
) -> int:
    """Run the points of `plan`, print the table, and return the exit status of the sweep.

    stopping  whether an interrupt stops the jobs that run

    Raises SubmitError where the cluster is lost; jobs may go on then.
    """
    print(f"sweep of {len(plan.points)} points in {plan.folder}, at most {at_once} at once", flush=True)
    schedule = Schedule(plan.labels(), at_once, ClusterJobs(client, plan, python, environment))
    try:
        schedule.run(lambda line: print(line, flush=True), lambda: time.sleep(LOOK_S))
    except KeyboardInterrupt:
        print(flush=True)
        if stopping:
            stop(client, schedule.running)
        print(unfinished(schedule, plan.folder, stopping), flush=True)
        return INTERRUPTED
    except SubmitError:
        print(unfinished(schedule, plan.folder, False), file=sys.stderr)
        raise
    table = new_id("table")
    start(client, table, table_command(python, plan.folder), environment, {"sweep": plan.folder})
    tabled = follow(client, table)
    for job, point in schedule.ended.items():
        if point.error:
            print(f"{schedule.labels[point.name]}: {point.status}: {point.error} (ray job logs {job})", file=sys.stderr)
    return sweep_exit_status(schedule.ended.values()) or tabled


def unfinished(schedule: Schedule, folder: str, stopped: bool) -> str:
    """What a schedule that was broken off leaves, a line each."""
    lines = [
        f"{schedule.labels[name]}: " + ("stopped" if stopped else f"job {job} goes on; ray job stop {job} stops it")
        for job, name in schedule.running.items()
    ]
    lines += [f"{schedule.labels[name]}: not submitted" for name in schedule.waiting]
    return "\n".join([*lines, f"The same command with {FOLDER}={folder} runs what is not finished."])
