"""The engines as one object on the driver: routing, deadlines, scoring."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import ray

from rollout.actor import EngineActor
from rollout.config import ASYNCHRONOUS, RolloutConfig
from rollout.failures import EngineFailed, RolloutFailed
from rollout.seeds import keyed_hash, request_seed
from rollout.transports import HOST_BACKEND, resolve_adapter, resolve_transport
from rollout.types import GenerationRequest, Key, Prompt, Response, Sampling
from rollout.watch import Watch

# How often engines are asked whether they get further.
POLL_S = 1.0
# What the driver grants on top of an engine's own limit, so that the engine's more precise sentence wins.
MARGIN_S = 10.0
# Pause before engines are replaced once more without a whole rollout between; it doubles each time.
BACK_OFF_S = 2.0


class RolloutPool:
    """vLLM engines as Ray actors. `actors` is in engine order; a new engine takes the place of the one it replaces."""

    def __init__(
        self, config: RolloutConfig, device: str, threads: int, places: Sequence[Mapping[str, Any]] | None = None
    ):
        """`places` are the Ray options of each engine that say where it runs; without them it reserves nothing."""
        self._config = config
        self._device = device
        self.adapter = resolve_adapter(config.adapter, device, config.mode)
        self.transport = resolve_transport(config.weight_transfer, device, config.colocated)
        self._environment = {"env_vars": engine_environment(device, threads)}
        self._places = list(places or [{"num_cpus": 0}] * config.engines)
        self.actors: list[Any] = [self._new_actor(engine) for engine in range(len(self._places))]
        self._incarnations = [0] * len(self.actors)
        self._asleep: set[int] = set()
        self._lock = threading.Lock()
        self._settings: dict[str, Any] = {}
        self._losses = 0
        self._on_loss: Callable[[Mapping[int, str]], None] = lambda lost: None
        self.refresh: Callable[[], None] = lambda: None
        self.connect: Callable[[], None] = lambda: None

    def attend(
        self,
        on_loss: Callable[[Mapping[int, str]], None],
        refresh: Callable[[], None],
        connect: Callable[[], None] = lambda: None,
    ) -> None:
        """Have `on_loss` called with what became of lost engines once there are new actors in their place, and
        `refresh` when those have started, with the model's own weights, before they get requests again. `connect`
        lets the next transfer of weights reach them."""
        self._on_loss, self.refresh, self.connect = on_loss, refresh, connect

    def incarnation(self, engine: int) -> int:
        """How often the engine has been replaced."""
        with self._lock:
            return self._incarnations[engine]

    def submit(
        self, engine: int, incarnation: int, requests: Mapping[Key, GenerationRequest], sampling: Sampling
    ) -> Any:
        """Begin to draw, for `collect` of the actor to end; the reference of the call, None where the engine has been
        replaced since it was of this incarnation."""
        with self._lock:
            if self._incarnations[engine] != incarnation:
                return None
            return self.actors[engine].submit.remote(dict(requests), sampling)

    def call_off(self, engine: int, incarnation: int, keys: Sequence[Key]) -> Any:
        """Have the engine give up what it draws under `keys`; the reference of the call, None as with `submit`."""
        with self._lock:
            if self._incarnations[engine] != incarnation:
                return None
            return self.actors[engine].call_off.remote(list(keys))

    def collect(self, engine: int, max_wait_s: float) -> tuple[Any, int]:
        """Ask the engine for what has ended since it was asked last; the reference of the call, and the incarnation of
        the engine that was asked."""
        with self._lock:
            return self.actors[engine].collect.remote(max_wait_s), self._incarnations[engine]

    def whole_rollout(self) -> None:
        """No engine was lost in a whole rollout: the budget of restarts is as it was."""
        self._losses = 0

    def begin_start(self, model_path: str, dtype: str, context_tokens: int, trust_remote_code: bool) -> list[Any]:
        """Start loading on all engines; the references are done when the engines are ready."""
        self._settings = engine_settings(
            self._config, self._device, model_path, dtype, context_tokens, trust_remote_code
        )
        return [actor.start.remote(self.adapter, self._settings) for actor in self.actors]

    def generate(
        self, prompts: Sequence[Prompt], samples: int, sampling: Sampling, seed: int, step: int
    ) -> list[list[Response]]:
        """`samples` responses for each prompt, in the order of `prompts`.

        Requests are dealt over the engines in the order of a hash of (uid, sample): balanced, the same in every run.
        Those of an engine that is lost are issued once more, as they were, to the one that replaces it. Raises
        RolloutFailed.
        """
        requests = [
            GenerationRequest(p.uid, sample, p.token_ids, request_seed(seed, step, p.uid, sample))
            for p in prompts
            for sample in range(samples)
        ]
        order = sorted(range(len(requests)), key=lambda i: keyed_hash(requests[i].uid, requests[i].sample))
        shares = {engine: order[engine :: len(self.actors)] for engine in range(len(self.actors))}
        limit = self._config.deadline_s
        responses: dict[int, Response] = {}
        while shares:
            calls = {
                engine: self.actors[engine].generate.remote([requests[i] for i in share], sampling, limit)
                for engine, share in shares.items()
            }
            answers, lost = self._answers(calls, limit, "generate", self._config.stall_s)
            for engine, found in answers.items():
                responses |= zip(shares.pop(engine), found, strict=True)
            if lost:
                self.replace(lost)
                self.refresh()
            else:
                self.whole_rollout()
        return [[responses[i + j] for j in range(samples)] for i in range(0, len(requests), samples)]

    def score(self, sequences: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Every engine's log-probs at temperature 1 of each sequence's tokens after its first."""
        limit = self._config.sync_timeout_s
        return self._all([actor.score.remote(sequences, limit) for actor in self.actors], "score the canary")

    def weight_versions(self) -> list[int]:
        return self._all([actor.weight_version.remote() for actor in self.actors], "tell their weight version")

    def sleep(self) -> None:
        """Have all engines leave the memory of their GPUs. Those that are lost are replaced, and sleep too.

        Raises RolloutFailed as `replace` does.
        """
        level, limit = self._config.sleep_level, self._config.sync_timeout_s
        while awake := [engine for engine in range(len(self.actors)) if engine not in self._asleep]:
            calls = {engine: self.actors[engine].sleep.remote(level, limit) for engine in awake}
            answers, lost = self._answers(calls, limit, "go to sleep", math.inf)
            self._asleep |= answers.keys()
            if lost:
                self.replace(lost)
                self.connect()

    def wake_weights(self) -> None:
        """Have the engines that sleep take back the memory of their weights, which a transfer then fills.

        Raises RolloutFailed where one is lost, and NoRoom.
        """
        self._wake("wake_weights", "take back the memory of its weights")

    def wake_cache(self) -> None:
        """Have the engines that slept take back their key-value caches, and draw again. Raises as `wake_weights`."""
        self._wake("wake_cache", "take back its key-value cache")
        self._asleep.clear()

    def _wake(self, method: str, what: str) -> None:
        limit = self._config.sync_timeout_s
        calls = {engine: getattr(self.actors[engine], method).remote(limit) for engine in sorted(self._asleep)}
        if lost := self._answers(calls, limit, what, math.inf)[1]:
            raise RolloutFailed(_sentence(lost))

    def lost(self) -> dict[int, str]:
        """What became of each engine that is dead, or does not say within `stall_s` that it lives."""
        calls = {engine: actor.progress.remote() for engine, actor in enumerate(self.actors)}
        return self._answers(calls, self._config.stall_s, "answer", math.inf)[1]

    def replace(self, lost: Mapping[int, str]) -> None:
        """Start new engines in the place of `lost`, which says what became of each. They hold the model's own weights.

        Raises RolloutFailed where `restarts` are used up.
        """
        # Where engines meet in a group of processes, it is broken for all.
        wanted = range(len(self.actors)) if self.transport == "nccl" else sorted(lost)
        self._losses += 1
        if self._losses > self._config.restarts:
            raise RolloutFailed(f"{_sentence(lost)} rollout.restarts = {self._config.restarts} allows no further one.")
        if self._losses > 1:
            time.sleep(BACK_OFF_S * 2 ** (self._losses - 2))
        for engine in wanted:
            ray.kill(self.actors[engine])
            self._asleep.discard(engine)
            with self._lock:
                self._incarnations[engine] += 1
                self.actors[engine] = self._new_actor(engine)
        self._on_loss({engine: lost.get(engine, f"engine {engine} was in one group with it") for engine in wanted})
        calls = {engine: self.actors[engine].start.remote(self.adapter, self._settings) for engine in wanted}
        failed = self._answers(calls, self._config.start_timeout_s, "start", math.inf)[1]
        if failed:
            self.replace(failed)

    def close(self) -> None:
        """Let vLLM stop its own processes, then end the actors."""
        ray.wait([a.shutdown.remote() for a in self.actors], num_returns=len(self.actors), timeout=10)
        for actor in self.actors:
            ray.kill(actor)

    def _new_actor(self, engine: int) -> Any:
        actor: Any = ray.remote(EngineActor)
        options = {"max_concurrency": 8, "runtime_env": self._environment, **self._places[engine]}
        return actor.options(**options).remote(engine)

    def _all(self, calls: list[Any], what: str) -> list[Any]:
        """The answers of all engines, in engine order. Raises RolloutFailed where one is lost."""
        answers, lost = self._answers(dict(enumerate(calls)), self._config.sync_timeout_s, what, math.inf)
        if lost:
            raise RolloutFailed(_sentence(lost))
        return [answers[engine] for engine in range(len(calls))]

    def _answers(
        self, calls: Mapping[int, Any], limit_s: float, what: str, stall_s: float
    ) -> tuple[dict[int, Any], dict[int, str]]:
        """What engines answered, and what became of those that are lost. Raises what an engine that lives raised.

        stall_s  how long an engine may get no further
        """
        waiting = {call: engine for engine, call in calls.items()}
        answers: dict[int, Any] = {}
        lost: dict[int, str] = {}
        watch, asked = Watch(calls, stall_s), dict[int, Any]()
        deadline = time.monotonic() + limit_s + MARGIN_S
        while waiting and (left_s := deadline - time.monotonic()) > 0:
            done, _ = ray.wait(list(waiting), timeout=min(POLL_S, left_s))
            for call in done:
                engine = waiting.pop(call)
                try:
                    answers[engine] = ray.get(call, timeout=limit_s)
                except (ray.exceptions.RayActorError, EngineFailed) as error:
                    lost[engine] = died(engine, error)
            if stall_s == math.inf or done:
                continue
            for call, engine in list(waiting.items()):
                self._ask(engine, watch, asked)
                if watch.silent(engine):
                    del waiting[call]
                    lost[engine] = hung(engine, stall_s)
        for engine in waiting.values():
            lost[engine] = f"engine {engine} did not {what} in {limit_s:g} s; see logs/engine-{engine}.log."
        return answers, lost

    def _ask(self, engine: int, watch: Watch, asked: dict[int, Any]) -> None:
        """Pass on to `watch` what the engine has said, and ask it again."""
        if engine in asked:
            if not ray.wait([asked[engine]], timeout=0)[0]:
                return
            try:
                watch.heard(engine, ray.get(asked[engine], timeout=POLL_S))
            except (ray.exceptions.RayError, EngineFailed):
                return  # the call that is waited for says so too
        asked[engine] = self.actors[engine].progress.remote()


def _sentence(lost: Mapping[int, str]) -> str:
    return " ".join(lost[engine] for engine in sorted(lost))


def died(engine: int, error: BaseException) -> str:
    """What became of an engine whose actor said so, or is gone."""
    return f"engine {engine} died: {_first_line(error)} See logs/engine-{engine}.log."


def hung(engine: int, stall_s: float) -> str:
    """What became of an engine that gets no further."""
    return f"engine {engine} hung: it drew no token for {stall_s:g} s (rollout.stall_s). See logs/engine-{engine}.log."


def _first_line(error: BaseException) -> str:
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return str(cause).strip().splitlines()[0].rstrip(".") + "."


def engine_settings(
    config: RolloutConfig, device: str, model_path: str, dtype: str, context_tokens: int, trust_remote_code: bool
) -> dict[str, Any]:
    """The fields of `vllm_adapter.EngineSettings`, which this process need not import."""
    transport = resolve_transport(config.weight_transfer, device, config.colocated)
    return {
        "model_path": model_path,
        "dtype": dtype,
        "context_tokens": context_tokens,
        "device": device,
        "max_sequences": config.max_sequences,
        "kv_cache_blocks": config.kv_cache_blocks,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel_size,
        "enforce_eager": config.enforce_eager,
        "weight_transfer": HOST_BACKEND if transport == "host" else transport,
        "trust_remote_code": trust_remote_code,
        # vLLM has no sleep mode on CPU.
        "sleeps": config.colocated and device == "cuda",
        "in_flight_updates": config.mode == ASYNCHRONOUS,
        "recompute_kv": config.recompute_kv,
    }


def engine_environment(device: str, threads: int) -> dict[str, str]:
    """Environment of a process that holds an engine; must be set before vLLM is imported."""
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    if device == "cpu":
        # Each engine keeps to its share of threads; vLLM's own binding would put every engine on the same cores.
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        # Else the sampler's count of ranks is compiled when an engine draws its first token, for seconds, with a g++.
        environment["TORCH_COMPILE_DISABLE"] = "1"
    return environment
