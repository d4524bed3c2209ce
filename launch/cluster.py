"""Ray for one run, and who gets which share of the machine."""

import atexit
import logging
import math
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import ray_constants

from launch.config import ConfigError, RunConfig
from launch.placement import Group, Node, engine_group, lacks, rank_group, reference_group, reserved, shared
from launch.ray_job import address_to_join
from launch.reaper import fate_shared
from launch.sharing import refuse_without_gpus, sharing_groups
from launch.stopping import kept_from_ray

# A cluster that is there answers in 2 s, a busy one in 20. Left to itself, ray.init tries for a quarter of an hour.
ANSWER_S = 60.0
# How long processes of a Ray that has been shut down may still be there.
LINGER_S = 3.0
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Shares:
    """What was decided about the machine or the cluster.

    device             cpu or cuda
    joined             whether the run is a guest on a cluster, where every actor asks for resources of its own
    engine_threads     OpenMP threads of each engine
    learner_threads    OpenMP threads of each learner rank
    reference_threads  OpenMP threads of each reference actor
    """

    device: str
    joined: bool
    engine_threads: int
    learner_threads: int
    reference_threads: int


@contextmanager
def ray_session(config: RunConfig) -> Iterator[None]:
    """Ray as `cluster` says: a private instance on this machine, or a cluster that is already up.

    A Ray that this process is already connected to is used, and left running. Raises ConfigError where no cluster
    answers, within seconds.
    """
    if ray.is_initialized():
        yield
        return
    address = address_to_join(config.cluster.kind, config.cluster.address, os.environ)
    where: dict[str, Any]
    token_folder, before = None, set(psutil.Process().children(recursive=True))
    if address is None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        token_folder = use_private_token()
        where = {"address": "local", "num_cpus": cores_here(), "include_dashboard": False}
    else:
        offer_token(os.environ)
        if problem := no_answer(address, ANSWER_S):
            raise ConfigError(problem)
        where = {"address": address}
    try:
        with kept_from_ray(), on_loopback() if address is None else nullcontext():
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(f"cluster.address={address}: {error}") from error
    except Exception as error:
        # Ray has no class of its own for this.
        if type(error) is not Exception:
            raise
        raise ConfigError(f"Ray did not start on this machine, which may be too busy now: {error}") from error
    if address is not None:
        try:
            yield
        finally:
            with kept_from_ray():
                ray.shutdown()
        return
    started = [child for child in psutil.Process().children(recursive=True) if child not in before]
    node: Any = ray._private.worker._global_node
    session = Path(node.get_session_dir_path())
    failed = True
    try:
        with fate_shared(started, [session, *([Path(token_folder)] if token_folder else [])]):
            yield
            failed = False
    except KeyboardInterrupt:
        failed = False
        raise
    finally:
        with kept_from_ray():
            ray.shutdown()
        # What Ray has to say about a failure stays.
        if not failed:
            _remove_session(session)


def _remove_session(folder: Path) -> None:
    latest = folder.with_name("session_latest")
    if latest.is_symlink() and latest.readlink() == folder:
        latest.unlink(missing_ok=True)
    deadline = time.monotonic() + LINGER_S
    # Ray's last processes may still write there.
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that is started meanwhile listen for HTTP on 127.0.0.1 only, as it does by itself on macOS and Windows.

    Left alone, its metrics answer whoever asks on any interface of the machine.
    """
    variable, given = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER
    environment = os.environ.get(variable)
    os.environ[variable], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = given
        if environment is None:
            del os.environ[variable]
        else:
            os.environ[variable] = environment


@cache
def use_private_token() -> str | None:
    """Make local instances of Ray demand a token of this process's own; returns its folder, None where the environment
    names a token already."""
    # Left alone, Ray writes a token into the user's home, and clusters started there later demand it. Ray reads the
    # token once per process, so all local sessions of the process share one.
    if "RAY_AUTH_TOKEN_PATH" in os.environ or "RAY_AUTH_TOKEN" in os.environ:
        return None
    folder = tempfile.TemporaryDirectory(prefix="entrain-")
    atexit.register(folder.cleanup)
    token = Path(folder.name) / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    return folder.name


def offer_token(environ: MutableMapping[str, str]) -> None:
    """Show clusters the token where there is one: with RAY_AUTH_MODE unset, Ray's clients send none."""
    named = "RAY_AUTH_TOKEN_PATH" in environ or "RAY_AUTH_TOKEN" in environ
    if "RAY_AUTH_MODE" not in environ and (named or (Path.home() / ".ray" / "auth_token").is_file()):
        environ["RAY_AUTH_MODE"] = "token"


def no_answer(address: str, limit_s: float) -> str:
    """Why the cluster at `address` cannot be joined, in a sentence; "" where it answers."""
    # In a process of its own, because Ray's client cannot be told to give up.
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"cluster.address={address}: no Ray cluster answered there in {limit_s:g} s; start it, or correct it."
    return "" if done.returncode == 0 else f"cluster.address={address}: {refusal(done.stdout + done.stderr)}"


def refusal(output: str) -> str:
    """Ray's answer to somebody who wants to join, in a sentence."""
    if "AuthToken" in output or "AuthenticationError" in output:
        return (
            "the cluster asks for a token, and none or another one was sent; "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file that holds the cluster's."
        )
    if "Could not find any running Ray instance" in output:
        return "this machine belongs to no running cluster; start one, or give its address."
    if "Timed out while waiting for GCS" in output:
        return "no Ray cluster answers there; start it, or correct it."
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "Ray's health check failed without a word."


def cores_here() -> int:
    """Cores this process may use."""
    return usable_cores(len(os.sched_getaffinity(0)), cgroup_quotas(Path("/proc/self/cgroup"), CGROUPS))


def usable_cores(allowed: int, quotas: Iterable[float]) -> int:
    """Of `allowed` cores, as many as the smallest quota pays for; a part of a core counts as one."""
    return max(1, min([allowed, *(math.ceil(quota) for quota in quotas)]))


def cgroup_quotas(membership: Path, root: Path) -> list[float]:
    """CPU limits, in cores, of the control groups (version 2, or 1) this process is in, outer ones included."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, inside in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        # A container sees its own group as the root, whatever the path says.
        for folder in {base, *(base / part for part in _outer(inside.lstrip("/")))}:
            found += _quota(folder)
    return found


def _outer(inside: str) -> list[str]:
    parts = [part for part in inside.split("/") if part]
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _quota(folder: Path) -> list[float]:
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return [] if limit in ("max", "-1") else [int(limit) / int(period)]
    except (OSError, ValueError):
        return []


def divide(config: RunConfig, nodes: Sequence[Node], joined: bool, only: str | None = None) -> Shares:
    """Divide one machine, or settle what every actor asks of a cluster.

    On one machine engines, learner and reference take turns, so each group may use all cores; GPUs are not shared, and
    ConfigError is raised where there are too few. A cluster may still grow, so there nothing is refused yet.

    only  the name of the one group that runs, where not all do
    """
    device = config.cluster.device
    if device == "auto":
        device = "cuda" if any(node.gpus for node in nodes) else "cpu"
    if joined:
        threads = config.learner.threads or config.cluster.cpus_per_rank
        return Shares(device, True, config.cluster.cpus_per_engine, threads, threads)
    if only is None:
        refuse_without_gpus(config, device)
        wanted = groups(config, device)
    else:
        wanted = [group for group in _apart(config, device) if group.name == only]
    problem = lacks(wanted, nodes) if device == "cuda" else ""
    if problem:
        raise ConfigError(problem.replace("the cluster has", "this machine has").replace(", add nodes", "") + ".")
    cores = sum(node.cpus for node in nodes)
    return Shares(
        device,
        False,
        max(1, cores // config.rollout.engines),
        config.learner.threads or max(1, cores // config.learner.ranks),
        config.learner.threads or max(1, cores // config.reference.actors),
    )


def groups(config: RunConfig, device: str) -> list[Group]:
    """The actors of a training run that compute. Ranks come first, so that they get nodes of their own before the
    engines fill them up."""
    sharing = config.rollout.colocated and device == "cuda"
    found = [*(sharing_groups(config) if sharing else _apart(config, device)), reference_group(config, device)]
    return [group for group in found if group.count]


def _apart(config: RunConfig, device: str) -> list[Group]:
    return [rank_group(config, device), engine_group(config, device)]


def places(
    shares: Shares, wanted: Sequence[Group], limit_s: float, say: Callable[[str], None]
) -> AbstractContextManager[dict[str, list[dict[str, Any]]]]:
    """Ray options of every actor, for as long as the context is open."""
    if shares.joined or shares.device == "cuda":
        return reserved(wanted, limit_s, say)
    return nullcontext(shared(wanted))


def is_joined(config: RunConfig) -> bool:
    """Whether the run is a guest on a cluster."""
    return address_to_join(config.cluster.kind, config.cluster.address, os.environ) is not None


def sentences(config: RunConfig, shares: Shares, nodes: Sequence[Node]) -> list[str]:
    """What was found and what was decided, for the top of the display."""
    cores, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    what = f"Cluster of {len(nodes)} node{'s' * (len(nodes) != 1)}" if shares.joined else "Machine"
    each = "each on CPUs of its own" if shares.joined else "engines and learner take turns on the cores"
    actors = config.reference.actors
    reference = f"{actors} reference actors x {shares.reference_threads} threads, "
    lines = [
        f"{what}: {cores} cores, {gpus} GPUs; running on {shares.device}.",
        f"{config.rollout.engines} engines x {shares.engine_threads} threads, {config.learner.ranks} learner ranks x "
        f"{shares.learner_threads} threads, {reference if config.reference.place != 'none' else ''}"
        f"{config.reward.workers} reward workers; {each}.",
    ]
    if shares.device == "cuda":
        lines.append("UNVERIFIED: the GPU path of this version has not been run on a GPU.")
        if config.rollout.colocated:
            lines.append(
                f"UNVERIFIED too: {config.rollout.engines} engines share GPUs with learner ranks, and sleep at level "
                f"{config.rollout.sleep_level} while those train (rollout.colocated)."
            )
    return lines
