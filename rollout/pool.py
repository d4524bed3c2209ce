"""The engines as one object on the driver: routing, deadlines, scoring."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray

from rollout.actor import EngineActor
from rollout.config import RolloutConfig
from rollout.seeds import keyed_hash, request_seed
from rollout.transports import HOST_BACKEND, resolve_adapter, resolve_transport
from rollout.types import GenerationRequest, Prompt, Response, Sampling


class RolloutFailed(RuntimeError):
    """An engine died or did not answer within its deadline."""


class RolloutPool:
    """vLLM engines as Ray actors. `actors` is in engine order."""

    def __init__(
        self, config: RolloutConfig, device: str, threads: int, places: Sequence[Mapping[str, Any]] | None = None
    ):
        """`places` are the Ray options of each engine that say where it runs; without them it reserves nothing."""
        self._config = config
        self._device = device
        self.adapter = resolve_adapter(config.adapter, device)
        self.transport = resolve_transport(config.weight_transfer, device)
        actor: Any = ray.remote(EngineActor)
        environment = {"env_vars": engine_environment(device, threads)}
        self.actors: list[Any] = [
            actor.options(max_concurrency=4, runtime_env=environment, **place).remote(index)
            for index, place in enumerate(places or [{"num_cpus": 0}] * config.engines)
        ]

    def begin_start(self, model_path: str, dtype: str, context_tokens: int, trust_remote_code: bool) -> list[Any]:
        """Start loading on all engines; the references are done when the engines are ready."""
        settings = engine_settings(self._config, self._device, model_path, dtype, context_tokens, trust_remote_code)
        return [actor.start.remote(self.adapter, settings) for actor in self.actors]

    def generate(
        self, prompts: Sequence[Prompt], samples: int, sampling: Sampling, seed: int, step: int
    ) -> list[list[Response]]:
        """`samples` responses for each prompt, in the order of `prompts`.

        Requests are dealt over the engines in the order of a hash of (uid, sample): balanced, the same in every run.
        """
        requests = [
            GenerationRequest(p.uid, sample, p.token_ids, request_seed(seed, step, p.uid, sample))
            for p in prompts
            for sample in range(samples)
        ]
        order = sorted(range(len(requests)), key=lambda i: keyed_hash(requests[i].uid, requests[i].sample))
        shares = [order[engine :: len(self.actors)] for engine in range(len(self.actors))]
        limit = self._config.deadline_s
        calls = [
            actor.generate.remote([requests[i] for i in share], sampling, limit)
            for actor, share in zip(self.actors, shares, strict=True)
        ]
        responses: dict[int, Response] = {}
        for share, answers in zip(shares, self._get(calls, limit, "generate"), strict=True):
            for index, response in zip(share, answers, strict=True):
                responses[index] = response
        return [[responses[i + j] for j in range(samples)] for i in range(0, len(requests), samples)]

    def score(self, sequences: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Every engine's log-probs at temperature 1 of each sequence's tokens after its first."""
        limit = self._config.sync_timeout_s
        return self._get([actor.score.remote(sequences, limit) for actor in self.actors], limit, "score the canary")

    def weight_versions(self) -> list[int]:
        calls = [actor.weight_version.remote() for actor in self.actors]
        return self._get(calls, self._config.sync_timeout_s, "tell their weight version")

    def close(self) -> None:
        """Let vLLM stop its own processes, then end the actors."""
        ray.wait([a.shutdown.remote() for a in self.actors], num_returns=len(self.actors), timeout=10)
        for actor in self.actors:
            ray.kill(actor)

    def _get(self, calls: list[Any], limit_s: float, what: str) -> list[Any]:
        """The answers of all engines, in engine order; the first failure ends the wait for the others."""
        waiting = list(calls)
        # A little longer than the engine's own limit, so that its more precise sentence wins.
        deadline = time.monotonic() + limit_s + 10
        while waiting:
            done, waiting = ray.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                late = ", ".join(str(calls.index(call)) for call in waiting)
                raise RolloutFailed(f"engine {late} did not {what} in {limit_s:.0f} s; see logs/engine-*.log")
            try:
                ray.get(done, timeout=limit_s)
            except ray.exceptions.RayActorError as error:
                engine = calls.index(done[0])
                reason = str(error).splitlines()[0]
                raise RolloutFailed(f"engine {engine} died: {reason} See logs/engine-{engine}.log.") from error
        return ray.get(calls, timeout=limit_s)


def engine_settings(
    config: RolloutConfig, device: str, model_path: str, dtype: str, context_tokens: int, trust_remote_code: bool
) -> dict[str, Any]:
    """The fields of `vllm_adapter.EngineSettings`, which this process need not import."""
    transport = resolve_transport(config.weight_transfer, device)
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
    return environment
