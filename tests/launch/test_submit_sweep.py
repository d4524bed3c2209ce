"""The points of a submitted sweep against Hydra's own sweeper, and their schedule with a stand-in for the cluster."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ray.dashboard.modules.job.common import JobInfo, JobStatus

from launch import submit
from launch.job_client import SubmitError
from launch.job_command import train_command
from launch.points import Point
from launch.submit_sweep import FOLDER, ClusterJobs, Plan, Schedule, outcome_of, plan, run_sweep, unfinished

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("/here")


def planned(*overrides: str, composed: bool = True) -> Plan:
    return plan(overrides, HERE, "multirun/now", composed)


def test_the_points_by_hand():
    found = planned("experiment=lab_grpo,lab_clip_higher", "seed=0,1", "steps=3", "hydra.verbose=false", composed=False)
    assert found == Plan(
        "/here/multirun/now",
        ("hydra.verbose=false",),
        {
            "experiment-lab_grpo_seed-0_steps-3": ("experiment=lab_grpo", "seed=0", "steps=3"),
            "experiment-lab_grpo_seed-1_steps-3": ("experiment=lab_grpo", "seed=1", "steps=3"),
            "experiment-lab_clip_higher_seed-0_steps-3": ("experiment=lab_clip_higher", "seed=0", "steps=3"),
            "experiment-lab_clip_higher_seed-1_steps-3": ("experiment=lab_clip_higher", "seed=1", "steps=3"),
        },
    )
    assert list(found.labels().values())[1:3] == ["experiment=lab_grpo seed=1", "experiment=lab_clip_higher seed=0"]
    assert planned("seed=1", composed=False).labels() == {"seed-1": "seed=1"}
    assert list(planned("seed=1,1", composed=False).points) == ["seed-1"]
    assert planned(composed=False).points == {"point": ()}


AWKWARD = [
    "name='a, b','it\\'s'",
    "seed=range(2,3)",
    "clip=glob(high*)",
    "clip.low=null",
    "++steps=1",
    "data.path='x=y'",
]

# Prints the points that launch.train would run, and the overrides of each as the point itself sees them.
WITNESS = """
import json, sys
from hydra.core.hydra_config import HydraConfig
from launch import entry
entry._run_point = lambda points, overrides, cfg, main: print("point", json.dumps(overrides))
entry.sweep.close = lambda folder: []
entry.hydra_entry(None)
"""


def seen(folder: Path, *arguments: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", WITNESS, "--multirun", *arguments, f"hydra.sweep.dir={folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("point ")]


def test_awkward_points_are_those_of_a_local_sweep_and_each_job_runs_its_own(tmp_path):
    points = [list(each) for each in planned(*AWKWARD, composed=False).points.values()]
    assert len(points) == 2
    assert seen(tmp_path, *AWKWARD) == points
    words = shlex.split(train_command("python", ["--multirun", *points[1]], FOLDER, str(tmp_path)))
    assert seen(tmp_path, *words[4:-1]) == [points[1]]


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("hydra.sweep.dir=runs/mine", "/here/runs/mine"),
        ("hydra.sweep.dir=/data/mine", "/data/mine"),
        ("hydra.sweep.dir='my runs, 2'", "/here/my runs, 2"),
    ],
)
def test_the_folder_of_a_sweep_is_absolute_and_no_setting_of_a_point(given, folder):
    found = planned("seed=0,1", given, composed=False)
    assert (found.folder, found.hydra) == (folder, ())
    assert list(found.points.values()) == [("seed=0",), ("seed=1",)]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("clip=ppo,higer", "clip=higer does not exist; did you mean clip=higher?"),
        ("clip.hihg=0.1,0.2", "clip.hihg is not a setting; did you mean clip.high?"),
        ("seed=0,many", "could not be converted"),
        ("output.folder=here", "for a sweep give hydra.sweep.dir"),
        ("hydra.sweep.dir=multirun/${name}", "all points share one folder"),
        ("seed", "cannot be read as setting=value"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_the_cluster_is_asked(given, sentence, capsys):
    assert submit.main(["--address", "127.0.0.1:1", "-m", "steps=1", given]) == 2
    assert sentence in capsys.readouterr().err


def test_settings_of_another_working_directory_are_not_judged_here():
    assert list(planned("new.setting=1,2", composed=False).points) == ["new.setting-1", "new.setting-2"]


class Cluster:
    """Jobs that take as many pauses as `lasting` says, and fail where `failing` says so."""

    def __init__(self, lasting: dict[str, int], failing: tuple[str, ...] = ()):
        self.lasting, self.failing = lasting, failing
        self.now, self.most, self.ends, self.order = 0, 0, {}, []

    def start(self, job: str, name: str) -> None:
        self.ends[job] = self.now + self.lasting[name]
        self.order.append(name)
        self.most = max(self.most, sum(end > self.now for end in self.ends.values()))

    def outcome(self, job: str, name: str) -> Point | None:
        if self.now < self.ends[job]:
            return None
        return Point(name, (), "failed", "it broke") if name in self.failing else Point(name, (), "finished", None)

    def pause(self) -> None:
        self.now += 1


@pytest.mark.parametrize(("at_once", "takes"), [(1, 11), (2, 6), (3, 5), (9, 5)])
def test_never_more_at_once_and_a_failure_stops_nobody(at_once, takes):
    cluster = Cluster({"a": 5, "b": 1, "c": 3, "d": 2}, failing=("b",))
    schedule, lines = Schedule({each: each for each in "abcd"}, at_once, cluster), []
    schedule.run(lines.append, cluster.pause)
    assert cluster.order == ["a", "b", "c", "d"]
    assert cluster.most == min(at_once, 4)
    # With two, b, c and d follow each other while a runs: 1 + 3 + 2.
    assert cluster.now == takes
    assert {point.name: point.status for point in schedule.ended.values()} == {
        "a": "finished",
        "b": "failed",
        "c": "finished",
        "d": "finished",
    }
    assert not schedule.waiting
    assert not schedule.running
    assert "b: failed: it broke" in lines
    assert [line.partition(" as job ")[0] for line in lines if "started" in line] == [f"{n}: started" for n in "abcd"]


def test_a_schedule_that_is_broken_off_knows_what_runs_and_what_waits():
    cluster = Cluster({"a": 1, "b": 9, "c": 1, "d": 1})
    schedule = Schedule({each: each for each in "abcd"}, 2, cluster)

    def pause() -> None:
        cluster.pause()
        if cluster.now == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        schedule.run(lambda line: None, pause)
    assert [point.name for point in schedule.ended.values()] == ["a"]
    jobs = {name: job for job, name in schedule.running.items()}
    assert list(jobs) == ["b", "c"]
    last = "The same command with hydra.sweep.dir=/s runs what is not finished."
    assert unfinished(schedule, "/s", stopped=False).splitlines() == [
        *(f"{name}: job {jobs[name]} goes on; ray job stop {jobs[name]} stops it" for name in ("b", "c")),
        "d: not submitted",
        last,
    ]
    assert unfinished(schedule, "/s", stopped=True).splitlines() == [
        "b: stopped",
        "c: stopped",
        "d: not submitted",
        last,
    ]


def test_a_job_that_is_being_submitted_is_known_when_that_is_interrupted():
    class Interrupted(Cluster):
        def start(self, job: str, name: str) -> None:
            raise KeyboardInterrupt

    schedule = Schedule({"a": "a", "b": "b"}, 2, Interrupted({}))
    with pytest.raises(KeyboardInterrupt):
        schedule.run(lambda line: None, lambda: None)
    assert list(schedule.running.values()) == ["a"]


LOG = "Running entrypoint for job x\nFailed: seed=1\nan engine died\nlogs: /s/logs\n\npoint  status\nseed=1  failed\n"


@pytest.mark.parametrize(
    ("status", "code", "message", "log", "wanted"),
    [
        ("SUCCEEDED", 0, "", "", ("finished", None)),
        ("FAILED", 1, "", LOG, ("failed", "an engine died")),
        ("FAILED", 2, "", LOG, ("refused", "an engine died")),
        ("FAILED", 1, "", "Traceback\nModuleNotFoundError: No module named 'ray'\n\n", None),
        ("FAILED", -9, "", LOG, ("failed", "the job was killed by SIGKILL, by somebody or for lack of memory")),
        ("FAILED", 143, "", "", ("failed", "the job was killed by SIGTERM")),
        ("STOPPED", None, "", "", ("failed", "the job was stopped from outside, by ray job stop or its like")),
        ("FAILED", None, "the node died\nmore", "", ("failed", "failed: the node died")),
    ],
)
def test_what_became_of_a_point(status, code, message, log, wanted):
    info = JobInfo(status=JobStatus(status), entrypoint="", message=message, driver_exit_code=code)
    found = outcome_of("seed-1", ("seed=1",), info, log)
    assert (found.status, found.error) == (wanted or ("failed", "ModuleNotFoundError: No module named 'ray'"))


class Client:
    """Ray's client, whose connection is lost at the first try of everything."""

    def __init__(self, refuses: bool = False):
        self.jobs: dict[str, dict] = {}
        self.tried: set[str] = set()
        self.refuses = refuses

    def submit_job(self, **job) -> None:
        if self.refuses or job["submission_id"] in self.jobs:
            raise RuntimeError("Request failed with status code 500: no such luck.")
        self.jobs[job["submission_id"]] = job
        raise ConnectionError("the answer was lost")

    def get_job_status(self, job: str) -> JobStatus:
        if job not in self.jobs:
            raise RuntimeError("Request failed with status code 404: Job does not exist.")
        return JobStatus.RUNNING

    def get_job_info(self, job: str) -> JobInfo:
        if job not in self.tried:
            self.tried.add(job)
            raise ConnectionError("lost")
        return JobInfo(status=JobStatus.SUCCEEDED, entrypoint="", driver_exit_code=0)


@pytest.fixture
def no_waiting(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("launch.job_client.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("launch.job_client.time.sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    return clock


def test_a_point_is_one_job_even_where_the_connection_is_lost(no_waiting):
    client = Client()
    jobs = ClusterJobs(
        client, planned("seed=0,1", "hydra.verbose=false", composed=False), "/opt/python", {"working_dir": "/copy"}
    )
    jobs.start("seed-1_ab", "seed-1")
    [job] = client.jobs.values()
    assert job["entrypoint"] == (
        "/opt/python -m launch.train --multirun hydra.verbose=false seed=1 hydra.sweep.dir=/here/multirun/now"
    )
    assert job["metadata"] == {"sweep": "/here/multirun/now", "point": "seed-1"}
    assert job["runtime_env"] == {"working_dir": "/copy"}
    assert jobs.outcome("seed-1_ab", "seed-1") == Point("seed-1", ("seed=1",), "finished", None)


def test_a_cluster_that_refuses_or_is_lost_for_a_minute(no_waiting):
    jobs = ClusterJobs(Client(refuses=True), planned(composed=False), "/opt/python", {})
    with pytest.raises(SubmitError, match="did not take job point_1: Request failed with status code 500"):
        jobs.start("point_1", "point")
    assert no_waiting[0] == 0

    class Lost(Client):
        def get_job_info(self, job: str) -> JobInfo:
            raise ConnectionError("nobody there")

    with pytest.raises(SubmitError, match="the cluster was lost while job point_1 ran: nobody there"):
        ClusterJobs(Lost(), planned(composed=False), "/opt/python", {}).outcome("point_1", "point")
    assert 60 < no_waiting[0] < 63


class Endless(Client):
    """Jobs that run until they are stopped; somebody interrupts the third look at one."""

    def __init__(self):
        super().__init__()
        self.looks, self.stopped = 0, set()

    def submit_job(self, **job) -> None:
        self.jobs[job["submission_id"]] = job

    def get_job_info(self, job: str) -> JobInfo:
        self.looks += 1
        if self.looks == 3:
            raise KeyboardInterrupt
        return JobInfo(status=JobStatus.RUNNING, entrypoint="")

    def stop_job(self, job: str) -> bool:
        self.stopped.add(job)
        return True

    def get_job_status(self, job: str) -> JobStatus:
        return JobStatus.STOPPED if job in self.stopped else JobStatus.RUNNING


@pytest.mark.parametrize("stopping", [True, False])
def test_an_interrupt_submits_no_more_and_stops_what_runs_where_asked(stopping, no_waiting, capsys):
    client = Endless()
    planned_points = planned("seed=0,1,2", composed=False)
    assert run_sweep(client, planned_points, "python", {}, at_once=2, stopping=stopping) == 130
    assert [job["metadata"]["point"] for job in client.jobs.values()] == ["seed-0", "seed-1"]
    assert client.stopped == (set(client.jobs) if stopping else set())
    said = capsys.readouterr().out
    assert "seed=2: not submitted" in said
    assert ("seed=1: stopped" in said) is stopping
    assert ("goes on; ray job stop seed-1_" in said) is not stopping


def test_a_lost_cluster_says_which_jobs_may_go_on(no_waiting, capsys):
    class Lost(Endless):
        def get_job_info(self, job: str) -> JobInfo:
            raise ConnectionError("nobody there")

    with pytest.raises(SubmitError, match=r"the cluster was lost while job seed-0_.* ran: nobody there"):
        run_sweep(Lost(), planned("seed=0,1", composed=False), "python", {}, at_once=1, stopping=True)
    said = capsys.readouterr().err
    assert "seed=0: job seed-0_" in said
    assert "seed=1: not submitted" in said
