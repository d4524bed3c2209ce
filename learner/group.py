"""The learner ranks as one object on the driver."""


from typing import Any

import numpy as np
import ray

from learner.config import ClipConfig, LearnerConfig, OffPolicyConfig
from learner.metrics import merged
from learner.planning import minibatches, plan_passes
from learner.schedule import learning_rate
from learner.types import Passes, TokenBatch, UpdatePlan
from learner.worker import LearnerWorker


class LearnerFailed(RuntimeError):
    """A learner rank died or made no progress within its deadline."""


class LearnerGroup:
    """DeepSpeed ranks as Ray actors. Every call runs on all ranks at once and has a deadline."""

    def __init__(
        self,
        config: LearnerConfig,
        clip: ClipConfig,
        off_policy: OffPolicyConfig,
        seed: int,
        total_steps: int,
        device: str,
        threads: int,
    ):
        self._config, self._clip, self._off_policy = config, clip, off_policy
        self._seed = seed
        self._total_updates = total_steps * off_policy.updates_per_rollout
        self._device = device
        environment = {
            "DS_ACCELERATOR": device,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        actor = ray.remote(LearnerWorker).options(
            num_cpus=0 if device == "cpu" else 1,
            num_gpus=0 if device == "cpu" else 1,
            runtime_env={"env_vars": environment},
        )
        self.actors = [actor.remote(rank, config.ranks) for rank in range(config.ranks)]

    def begin_start(self, model_path: str, dtype: str, trust_remote_code: bool, temperature: float) -> list[Any]:
        """Start loading on all ranks; the references are done when the ranks are ready."""
        master = self._get([self.actors[0].rendezvous.remote()], self._config.start_timeout_s)[0]
        return self._all(
            "start",
            self._config,
            self._clip,
            model_path,
            dtype,
            trust_remote_code,
            temperature,
            self._device,
            master,
        )

    def connect_engines(
        self, engines: list[Any], workers_per_engine: int, transport: str, bucket_bytes: int, timeout_s: float
    ) -> None:
        calls = self._all("connect_engines", engines, workers_per_engine, transport, bucket_bytes, timeout_s)
        self._get(calls, timeout_s)

    def score(self, batch: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
        """Log-probs and exact entropies float32 [response tokens] under the current weights, at rollout temperature."""
        results = self._get(self._all("score", ray.put(batch), self._passes(batch, np.arange(batch.lengths.size))))
        logprobs, entropies = np.empty((2, int(batch.response_lengths.sum())), np.float32)
        for index, rank_logprobs, rank_entropies in results:
            logprobs[index], entropies[index] = rank_logprobs, rank_entropies
        return logprobs, entropies

    def update(self, batch: TokenBatch, step: int) -> dict[str, float]:
        """All updates of rollout batch `step` (from 0); returns their metrics."""
        tallies = self._get(self._all("update", ray.put(batch), self.plan_updates(batch, step)))
        return merged(tallies).values()

    def plan_updates(self, batch: TokenBatch, step: int) -> list[UpdatePlan]:
        """Samples of each update, rank and pass, and each update's learning rate."""
        config, first = self._config, step * self._off_policy.updates_per_rollout
        parts = minibatches(batch.groups, self._off_policy.minibatches, self._off_policy.epochs, (self._seed, step))
        return [
            UpdatePlan(
                self._passes(batch, samples),
                int(batch.response_lengths[samples].sum()),
                learning_rate(
                    config.schedule, config.learning_rate, config.warmup_updates, self._total_updates, first + number
                ),
            )
            for number, samples in enumerate(parts)
            if samples.size
        ]

    def score_sequences(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probs at temperature 1 of each sequence's tokens after its first."""
        return self._get(self._all("score_sequences", sequences))[0]

    def send_weights(self, version: int, timeout_s: float) -> int:
        """Stream the weights to all engines as `version`; returns the bytes each engine received."""
        return self._get(self._all("send_weights", version), timeout_s)[0]

    def save(self, folder: str) -> None:
        self._get(self._all("save", folder))

    def close(self) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def _passes(self, batch: TokenBatch, samples: np.ndarray) -> tuple[Passes, ...]:
        return plan_passes(batch.lengths, samples, self._config.ranks, self._config.tokens_per_microbatch)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(actor, method).remote(*arguments) for actor in self.actors]

    def _get(self, calls: list[Any], timeout_s: float | None = None) -> list[Any]:
        limit = self._config.deadline_s if timeout_s is None else timeout_s
        try:
            return ray.get(calls, timeout=limit)
        except ray.exceptions.GetTimeoutError:
            done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
            late = [rank for rank, call in enumerate(calls) if call not in done]
            raise LearnerFailed(
                f"learner rank {', '.join(map(str, late))} made no progress in {limit:.0f} s; "
                "see logs/learner-*.log, or raise learner.deadline_s"
            ) from None
        except ray.exceptions.RayActorError as error:
            raise LearnerFailed(f"a learner rank died: {error}; see logs/learner-*.log") from error


