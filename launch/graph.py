"""The actors of a run as one object: started together, proved in step after every sync, closed together."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray

from launch.canary import CanaryResult, prove
from launch.checkpoint_folder import Checkpoint
from launch.cluster import Shares
from launch.config import RunConfig
from launch.logs import ActorLogs, log_reward_worker, log_to_files
from launch.model_folder import model_folder
from launch.nodes import Place, fetch, here, model_missing, name_losses, new_folder, not_up, planned, where
from launch.placement import ENGINES, RANKS, REFERENCES
from learner.config import ObjectiveConfig
from learner.group import LearnerGroup
from learner.reference import ReferenceGroup
from reward.pool import RewardPool
from rollout.failures import RolloutFailed
from rollout.pool import RolloutPool

# What the actors of each group are called.
ACTORS = {ENGINES: "engine", RANKS: "learner", REFERENCES: "reference"}


class StartFailed(RuntimeError):
    """An actor did not start."""


class Graph:
    """Engines, reward workers, learner ranks and reference actors. A context manager; leaving it ends every actor.

    canary     token ids of the prompts both sides score after every sync
    reference  None where the run has no reference policy
    """

    def __init__(
        self,
        config: RunConfig,
        shares: Shares,
        places: Mapping[str, list[dict[str, Any]]],
        verifiers: set[str],
        canary: list[np.ndarray],
        logs: Path,
        notice: Callable[[str], None],
    ):
        """`notice` is told what became of an engine that another one replaces."""
        self._config = config
        self._canary = canary
        self._logs = logs
        self._notice = notice
        self._version = 0
        self._actor_logs: list[ActorLogs] = []
        self._nodes: dict[str, Place] = {}
        for group, options in places.items():
            self._nodes |= planned(ACTORS[group], options)
        # One after the other only on paper: constructors are light, the loading in `start` runs at the same time.
        self.reward = RewardPool(config.reward, verifiers, partial(log_reward_worker, here(), str(logs)))
        self.rollout = RolloutPool(config.rollout, shares.device, shares.engine_threads, places[ENGINES])
        self.rollout.attend(self._engines_lost, self._refresh, self._connect)
        self.learner = make_learner(config, shares, places[RANKS])
        self.reference: ReferenceGroup | None = None
        if config.reference.place != "none":
            self.reference = ReferenceGroup(
                config.learner,
                config.reference.actors,
                config.off_policy.minibatches,
                shares.device,
                shares.reference_threads,
                places[REFERENCES],
            )

    def start(self, say: Callable[[str], None], checkpoint: Checkpoint | None = None) -> None:
        """Load the model everywhere, connect the weight transfer, and prove it with the first weights.

        Those are of the version that `checkpoint` has; without one they are the model's own, version 0.
        """
        config, model = self._config, self._config.model
        engines = {f"{ACTORS[ENGINES]}-{i}": actor for i, actor in enumerate(self.rollout.actors)}
        ranks = {f"{ACTORS[RANKS]}-{i}": actor for i, actor in enumerate(self.learner.actors)}
        judges = {f"reward-{i}": actor for i, actor in enumerate(self.reward.actors)}
        references = {
            f"{ACTORS[REFERENCES]}-{i}": actor
            for i, actor in enumerate(self.reference.actors if self.reference else [])
        }
        say("starting the actors")
        path = model_folder(model.path)
        reference_path = model_folder(config.reference.path) if config.reference.path else path
        limit_s = config.cluster.start_timeout_s
        try:
            problem = not_up(engines | ranks | references, self._nodes, limit_s)
            if not problem:
                everyone = engines | ranks | references | judges
                self._log_to_files(everyone, limit_s)
                problem = model_missing("model.path", engines | ranks, path, limit_s)
                setting = "reference.path" if config.reference.path else "model.path"
                problem = problem or model_missing(setting, references, reference_path, limit_s)
        except ray.exceptions.GetTimeoutError:
            problem = f"not all actors came up in {limit_s:.0f} s; see {self._logs}, or raise cluster.start_timeout_s"
        except ray.exceptions.RayError as error:
            problem = f"not all actors came up; {_cause(error)}"
        if problem:
            raise StartFailed(problem)
        limit = max(config.rollout.start_timeout_s, config.learner.start_timeout_s)
        calls = self.rollout.begin_start(path, model.dtype, model.context_tokens, model.trust_remote_code)
        if config.rollout.colocated:
            # vLLM measures its GPU while it starts, and would take for its own what the learner takes meanwhile.
            say(f"loading {model.name} into {len(engines)} engines")
            wait_started(dict(zip(engines, calls, strict=True)), limit, self._logs)
            self.rollout.sleep()
        calls += self.learner.begin_start(path, model.dtype, model.trust_remote_code)
        if self.reference:
            calls += self.reference.begin_start(
                reference_path,
                model.dtype,
                config.reference.trust_remote_code if config.reference.path else model.trust_remote_code,
                config.reference.offload,
            )
        parts = {"engines": engines, "learner ranks": ranks, "reference actors": references}
        say(f"loading {model.name} into {', '.join(f'{len(part)} {name}' for name, part in parts.items() if part)}")
        wait_started(dict(zip([*engines, *ranks, *references], calls, strict=True)), limit, self._logs)
        self.reward.wait_ready()
        say("sending the weights and checking the canary")
        self._connect()
        if checkpoint:
            checkpoint.restore(self.learner)
        self.sync(checkpoint.state["weight_version"] if checkpoint else 0)

    def make_room_to_train(self) -> dict[str, float]:
        """Where engines share GPUs with the learner, have them sleep until the next `sync`; nothing may be drawn."""
        started = time.perf_counter()
        # First, and alone: vLLM fails where less of the GPU is free after it went to sleep than before.
        self.rollout.sleep()
        self.learner.take_back()
        return {"speed/sleep_seconds": time.perf_counter() - started}

    def sync(self, version: int) -> dict[str, float]:
        """Send the learner's weights to the engines as `version`, and prove that they arrived.

        Raises `CanaryMismatch`.
        """
        self._version = version
        row, result = self._transfer()
        return row | {"sync/canary_abs_mean": result.mean_abs}

    def _transfer(self) -> tuple[dict[str, float], CanaryResult]:
        """Its metrics and its proof. Engines that sleep are awake after it; those lost meanwhile are replaced."""
        while True:
            try:
                row = self._send_to_engines_that_wake_up() if self._config.rollout.colocated else self._send()
                return row, self._prove()
            except (ray.exceptions.RayError, RolloutFailed, TimeoutError):
                lost = self.rollout.lost()
                if not lost:
                    raise
            # The others may have got a part of the weights, and vLLM has no way back from there.
            broken = dict.fromkeys(range(len(self.rollout.actors)), "the transfer of weights was broken off with it")
            self.rollout.replace(broken | lost)
            self._connect()

    def _send(self) -> dict[str, float]:
        started = time.perf_counter()
        sent = self.learner.send_weights(self._version, self._config.rollout.sync_timeout_s)
        seconds = time.perf_counter() - started
        return {"sync/bytes": sent, "speed/sync_bytes_per_s": sent / seconds, "speed/sync_seconds": seconds}

    def _send_to_engines_that_wake_up(self) -> dict[str, float]:
        """In two stages, so that buckets of weights and the key-value cache need not fit into a GPU together."""
        started = time.perf_counter()
        self.learner.give_way()
        self.rollout.wake_weights()
        row = self._send()
        self.learner.give_way()  # the memory of the buckets
        self.rollout.wake_cache()
        seconds = time.perf_counter() - started - row["speed/sync_seconds"]
        return row | {"speed/wake_seconds": seconds}

    def _prove(self) -> CanaryResult:
        engines = self.rollout.score(self._canary)
        learner = self.learner.score_sequences(self._canary)
        return prove(learner, engines, self._config.rollout.canary_bound, self._version)

    def _connect(self) -> None:
        config = self._config.rollout
        self.learner.connect_engines(
            self.rollout.actors,
            config.tensor_parallel_size,
            self.rollout.transport,
            config.bucket_bytes,
            config.sync_timeout_s,
        )

    def _refresh(self) -> None:
        """Bring the weights of the last sync to engines that have just been started."""
        self._connect()
        self._transfer()

    def _engines_lost(self, lost: Mapping[int, str]) -> None:
        fresh = {f"{ACTORS[ENGINES]}-{engine}": self.rollout.actors[engine] for engine in lost}
        sentences = " ".join(dict.fromkeys(lost[engine].rstrip(".") + "." for engine in sorted(lost)))
        self._notice(f"{sentences} {', '.join(fresh)} started anew; requests that were lost are issued once more.")
        limit_s = self._config.cluster.start_timeout_s
        if problem := not_up(fresh, {}, limit_s):
            raise StartFailed(problem)
        self._log_to_files(fresh, limit_s)

    def _log_to_files(self, actors: Mapping[str, Any], limit_s: float) -> None:
        self._actor_logs.append(log_to_files(actors, self._logs, limit_s))
        self._nodes |= self._actor_logs[-1].places

    def save(self, folder: Path) -> None:
        """Write the model as a Hugging Face folder on the driver's node, whichever node rank 0 is on."""
        rank, limit = self.learner.actors[0], self._config.learner.deadline_s
        place: Place = where({"learner-0": rank}, limit)["learner-0"]
        if place.id == here().id:
            self.learner.save(str(folder))
            return
        away = ray.get(rank.__ray_call__.remote(new_folder), timeout=limit)
        self.learner.save(f"{away}/model")
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        fetch(place, away, partial, limit)
        shutil.rmtree(folder, ignore_errors=True)
        (partial / "model").rename(folder)
        partial.rmdir()

    def close(self) -> None:
        """End every actor, and bring home the logs of those on other nodes."""
        self.reward.close()
        self.rollout.close()
        self.learner.close()
        if self.reference:
            self.reference.close()
        for logs in self._actor_logs:
            logs.collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            name_losses(error, self._nodes)
        self.close()


def make_learner(config: RunConfig, shares: Shares, places: Sequence[Mapping[str, Any]]) -> LearnerGroup:
    """The ranks, which have loaded nothing yet; `places` are the Ray options of each."""
    return LearnerGroup(
        config.learner,
        ObjectiveConfig(config.algorithm, config.clip, config.reference, config.correction),
        config.entropy,
        config.probe,
        config.off_policy,
        config.seed,
        config.steps,
        shares.device,
        shares.learner_threads,
        places,
    )


def _cause(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"


def wait_started(calls: dict[str, ray.ObjectRef], limit_s: float, logs: Path) -> None:
    """Wait for the start of each named actor. Raises `StartFailed` with the first that failed, or with all that are
    late."""
    names = {call: name for name, call in calls.items()}
    deadline = time.monotonic() + limit_s
    late = list(names)
    while late and time.monotonic() < deadline:
        # One after the other, because nothing is gained by waiting for the rest once one has failed.
        done, late = ray.wait(late, timeout=max(0.0, deadline - time.monotonic()))
        for call in done:
            try:
                ray.get(call, timeout=limit_s)
            except ray.exceptions.RayError as error:
                raise StartFailed(f"{names[call]} did not start: {_cause(error)}; see {logs}") from error
    if late:
        raise StartFailed(
            f"{', '.join(sorted(names[call] for call in late))} not ready after {limit_s:.0f} s; see {logs}, "
            "or raise rollout.start_timeout_s and learner.start_timeout_s"
        )
