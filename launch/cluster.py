"""Ray for one run, and who gets which share of the machine."""

import atexit
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray

from launch.config import ConfigError, RunConfig


@dataclass(frozen=True)
class Shares:
    """What was decided about the machine.

    device           cpu or cuda
    engine_threads   OpenMP threads of each engine
    learner_threads  OpenMP threads of each learner rank
    """

    device: str
    engine_threads: int
    learner_threads: int


@contextmanager
def ray_session(config: RunConfig) -> Iterator[None]:
    """Ray as `cluster.kind` says: a private local instance, or the cluster at `cluster.address`.

    A Ray that this process is already connected to is used, and left running.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    where: dict[str, Any]
    if config.cluster.kind == "local":
        use_private_token()
        where = {"address": "local", "num_cpus": os.cpu_count(), "include_dashboard": False}
    else:
        where = {"address": config.cluster.address or "auto"}
    ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


@cache
def use_private_token() -> None:
    # Left alone, Ray writes a token into the user's home, and clusters started there later demand it. Ray reads the
    # token once per process, so all local sessions of the process share one.
    if "RAY_AUTH_TOKEN_PATH" in os.environ or "RAY_AUTH_TOKEN" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="entrain-")
    atexit.register(folder.cleanup)
    token = Path(folder.name) / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)


def divide(config: RunConfig, cores: int, gpus: int) -> Shares:
    """Divide `cores` and `gpus`. Engines and learner take turns, so each group may use all cores.

    Raises ConfigError where GPUs are asked for that are not there.
    """
    device = config.cluster.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    needed = config.learner.ranks + config.rollout.engines * config.rollout.tensor_parallel_size
    if device == "cuda" and gpus < needed:
        raise ConfigError(
            f"learner.ranks={config.learner.ranks} and rollout.engines={config.rollout.engines} x "
            f"rollout.tensor_parallel_size={config.rollout.tensor_parallel_size} need {needed} GPUs, Ray has {gpus}; "
            "lower them, or set cluster.device=cpu"
        )
    return Shares(
        device,
        max(1, cores // config.rollout.engines),
        config.learner.threads or max(1, cores // config.learner.ranks),
    )


def resources() -> tuple[int, int]:
    """Cores and GPUs of the cluster this process is connected to."""
    found = ray.cluster_resources()
    return int(found.get("CPU", 1)), int(found.get("GPU", 0))


def sentences(config: RunConfig, shares: Shares, cores: int, gpus: int) -> list[str]:
    """What was decided, for the top of the display."""
    lines = [
        f"Machine: {cores} cores, {gpus} GPUs; running on {shares.device} with {config.rollout.engines} engines x "
        f"{shares.engine_threads} threads, {config.learner.ranks} learner ranks x {shares.learner_threads} threads, "
        f"{config.reward.workers} reward workers."
    ]
    if shares.device == "cuda":
        lines.append("UNVERIFIED: the GPU path of this version has not been run on a GPU.")
    return lines
