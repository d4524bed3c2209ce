"""The learner ranks as one object on the driver."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from entropy.config import EntropyConfig
from entropy.control import ROLLOUT
from entropy.controls import make_controls
from learner.accounting import plan_metrics, speed_metrics
from learner.config import LearnerConfig, ObjectiveConfig, OffPolicyConfig, ProbeConfig
from learner.finite import Skipped, WeightsNotFinite, first_causes
from learner.metrics import merged
from learner.planning import PassLimits, minibatches, plan_passes
from learner.schedule import learning_rate
from learner.snapshots import Header, Snapshot, Wholes
from learner.types import Passes, Scores, TokenBatch, UpdatePlan, joined
from learner.worker import LearnerWorker

# What the driver grants a sync on top of rollout.sync_timeout_s, so that the more precise sentence of rank 0 wins.
SYNC_MARGIN_S = 20.0
# How long the other ranks have to finish or fail once one has failed, before they are called stuck.
GRACE_S = 5.0


class LearnerFailed(RuntimeError):
    """A learner rank died or did not finish within its deadline."""


@dataclass(frozen=True)
class Updated:
    """What the updates of a batch came to.

    metrics              of all updates
    logprobs, entropies  float32 [response tokens] under the weights before the update, where the batch came without old
                         log-probabilities; else None
    applied              updates that were
    skipped              updates that were not, in order
    """

    metrics: dict[str, float]
    logprobs: np.ndarray | None
    entropies: np.ndarray | None
    applied: int
    skipped: list[Skipped]

    @property
    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Log-probs and entropies, of a batch that came without the former."""
        if self.logprobs is None or self.entropies is None:
            raise ValueError("the batch had been scored before it was trained on")
        return self.logprobs, self.entropies


class LearnerGroup:
    """DeepSpeed ranks as Ray actors. Every call runs on all ranks at once and has a deadline."""

    def __init__(
        self,
        config: LearnerConfig,
        objective: ObjectiveConfig,
        entropy: EntropyConfig,
        probe: ProbeConfig,
        off_policy: OffPolicyConfig,
        seed: int,
        total_steps: int,
        device: str,
        threads: int,
        places: Sequence[Mapping[str, Any]] | None = None,
    ):
        """`places` are the Ray options of each rank that say where it runs; without them it reserves nothing."""
        self._config, self._objective, self._off_policy = config, objective, off_policy
        self._entropy, self._probe, self._total_steps = entropy, probe, total_steps
        self._seed = seed
        controls = make_controls(entropy, seed, total_steps)
        looks_back = controls.needs.entropies or controls.has(ROLLOUT)
        # With a single update its own forward pass finds them.
        self.needs_old_logprobs = off_policy.updates_per_rollout > 1 or looks_back
        self._steers_sampling = controls.needs.synchronous
        self._total_updates = total_steps * off_policy.updates_per_rollout
        self._device = device
        environment = {
            "DS_ACCELERATOR": device,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        actor: Any = ray.remote(LearnerWorker)
        self.actors: list[Any] = [
            actor.options(runtime_env={"env_vars": environment}, **place).remote(rank, config.ranks)
            for rank, place in enumerate(places or [{"num_cpus": 0}] * config.ranks)
        ]

    def begin_start(self, model_path: str, dtype: str, trust_remote_code: bool) -> list[Any]:
        """Start loading on all ranks; the references are done when the ranks are ready."""
        limit_s, setting = self._config.start_timeout_s, "learner.start_timeout_s"
        meeting_places = self._get("rendezvous", self._all("rendezvous"), limit_s, setting)
        spread = len({address for address, _ in meeting_places}) > 1
        self._profiles = self._all(
            "start",
            self._config,
            self._objective,
            self._entropy,
            self._probe,
            self._total_steps,
            model_path,
            dtype,
            trust_remote_code,
            self._seed,
            self._device,
            meeting_places[0],
            spread,
        )
        return self._profiles

    def connect_engines(
        self, engines: list[Any], workers_per_engine: int, transport: str, bucket_bytes: int, timeout_s: float
    ) -> None:
        """Open the weight transfer from rank 0 to the rollout actors, whose calls may take `timeout_s` each."""
        calls = self._all("connect_engines", engines, workers_per_engine, transport, bucket_bytes, timeout_s)
        self._get("connect_engines", calls, timeout_s + SYNC_MARGIN_S, "rollout.sync_timeout_s")

    def score(self, batch: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
        """Log-probs and exact entropies float32 [response tokens] of the current weights at the batch's temperature."""
        passes = self._passes(batch, np.arange(batch.lengths.size))
        limit_s = self._config.deadline_s * self._off_policy.minibatches
        return _whole(batch, self._get("score", self._all("score", ray.put(batch), passes), limit_s))

    def update(self, batch: TokenBatch, step: int) -> Updated:
        """All updates of rollout batch `step` (from 0).

        One whose advantages, log-probabilities, loss or gradient are not finite is skipped. Raises WeightsNotFinite
        where weights or moments no longer are.
        """
        profile = self._get("start", self._profiles[:1])[0]
        start = time.perf_counter()
        plans = self.plan_updates(batch, step)
        limit_s = self._config.deadline_s * max(1, len(plans))
        results = self._get("update", self._all("update", ray.put(batch), plans, step), limit_s)
        seconds = time.perf_counter() - start
        tallies, scores, seen, broken = zip(*results, strict=True)
        skipped = first_causes(seen)
        if name := next(filter(None, broken), None):
            causes = [f"update {number + 1} of {len(plans)} was skipped: {cause}" for number, cause in skipped]
            raise WeightsNotFinite(
                "; ".join(
                    [f"weights or moments of {name} are not finite after the updates of step {step + 1}", *causes]
                )
            )
        row = merged(tallies).values() | plan_metrics(batch.lengths, plans)
        row |= speed_metrics(batch, plans, profile, self._config.ranks, seconds)
        row["policy/skipped_updates"] = len(skipped)
        applied = len(plans) - len(skipped)
        if batch.old_logprobs is not None:
            return Updated(row, None, None, applied, skipped)
        return Updated(row, *_whole(batch, list(scores)), applied, skipped)

    def next_temperature(self) -> float | None:
        """At which the next rollout is to be drawn, as the controls have decided; None for the configured one."""
        return self._get("next_temperature", self._all("next_temperature"))[0] if self._steers_sampling else None

    def plan_updates(self, batch: TokenBatch, step: int) -> list[UpdatePlan]:
        """Samples of each update, rank and pass, and each update's learning rate."""
        config, first = self._config, step * self._off_policy.updates_per_rollout
        parts = minibatches(batch.groups, self._off_policy.minibatches, self._off_policy.epochs, (self._seed, step))
        return [
            UpdatePlan(
                self._passes(batch, samples),
                samples,
                learning_rate(
                    config.schedule, config.learning_rate, config.warmup_updates, self._total_updates, first + number
                ),
                first + number,
            )
            for number, samples in enumerate(parts)
            if samples.size
        ]

    def score_sequences(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probs at temperature 1 of each sequence's tokens after its first."""
        return self._get("score_sequences", self._all("score_sequences", sequences))[0]

    def send_weights(self, version: int, timeout_s: float) -> int:
        """Stream the weights to all engines as `version`; returns the bytes each engine received."""
        calls = self._all("send_weights", version)
        return self._get("send_weights", calls, timeout_s + SYNC_MARGIN_S, "rollout.sync_timeout_s")[0]

    def give_way(self) -> None:
        """Leave the engines what memory of shared GPUs they can use. May come several times before `take_back`."""
        self._get("give_way", self._all("give_way"))

    def take_back(self) -> None:
        """Be ready to train after `give_way`, or at first."""
        if self._config.offload_while_drawing:
            self._get("take_back", self._all("take_back"))

    def snapshot(self, bucket_bytes: int) -> Snapshot:
        """Copy what training goes on from into the object store; whole parameters of `bucket_bytes` at a time."""
        parts = [actor.snapshot.options(num_returns="streaming").remote(bucket_bytes) for actor in self.actors]
        self._get("snapshot", [part.completed() for part in parts])
        references = [list(part) for part in parts]
        headers = self._get("snapshot", [each[0] for each in references])
        return Snapshot(headers, [each[1:] for each in references], self._config.deadline_s)

    def snapshot_native(self, folder: Path) -> Snapshot:
        """Have every rank write its part into `folder` in DeepSpeed's own form; the snapshot has no buckets.

        Raises OSError where not all of them can, and where this process does not see what they wrote.
        """
        answers = self._get("snapshot_native", self._all("snapshot_native", str(folder)))
        if problem := next(filter(None, (answer.problem for answer in answers)), None):
            raise OSError(problem)
        here = {path.name for path in folder.rglob("*") if path.is_file()}
        if unseen := sorted({name for answer in answers for name in answer.files} - here):
            raise OSError(
                f"the driver does not see {unseen[0]} in {folder}: checkpoint.form = deepspeed needs a file system "
                "that driver and ranks share"
            )
        return Snapshot([answer.header for answer in answers], [[] for _ in answers], self._config.deadline_s)

    def restore_native(self, folder: Path, header: Header, random: Mapping[str, np.ndarray]) -> None:
        """Go on from what `snapshot_native` wrote in the same layout, and what its snapshot held besides.

        Code that is in the files is run. Raises StateMismatch.
        """
        states = self._generators(random)
        calls = [
            actor.restore_native.remote(str(folder), header, each)
            for actor, each in zip(self.actors, states, strict=True)
        ]
        self._get("restore_native", calls)

    def restore(self, header: Header, random: Mapping[str, np.ndarray], buckets: Iterable[Wholes]) -> None:
        """Go on from a snapshot of any layout.

        random   state of every generator, by "<rank>.<device>"
        buckets  whole parameters and moments; one bucket is in memory at a time
        """
        states = self._generators(random)
        calls = [actor.begin_restore.remote(header, each) for actor, each in zip(self.actors, states, strict=True)]
        self._get("begin_restore", calls)
        for bucket in buckets:
            self._get("restore", self._all("restore", ray.put(bucket)))

    def _generators(self, random: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """States of each rank's generators by device; none where another number of ranks had drawn from them."""
        states: list[dict[str, np.ndarray]] = [{} for _ in self.actors]
        if len({name.partition(".")[0] for name in random}) == len(self.actors):
            for name, state in random.items():
                rank, _, generator = name.partition(".")
                states[int(rank)][generator] = state
        return states

    def save(self, folder: str) -> None:
        """Write the model as a Hugging Face folder."""
        self._get("save", self._all("save", folder))

    def close(self) -> None:
        """End the ranks' processes at once."""
        for actor in self.actors:
            ray.kill(actor)

    def _passes(self, batch: TokenBatch, samples: np.ndarray) -> tuple[Passes, ...]:
        config = self._config
        limits = PassLimits.of(config)
        return plan_passes(batch.lengths, samples, config.ranks, limits)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(actor, method).remote(*arguments) for actor in self.actors]

    def _get(
        self, method: str, calls: list[Any], limit_s: float | None = None, setting: str = "learner.deadline_s"
    ) -> list[Any]:
        limit_s = self._config.deadline_s if limit_s is None else limit_s
        try:
            return ray.get(calls, timeout=limit_s)
        except ray.exceptions.GetTimeoutError:
            raise LearnerFailed(
                f"learner rank {_ranks(_late(calls))} did not finish {method} in {limit_s:g} s; "
                f"see logs/learner-*.log, or raise {setting}"
            ) from None
        except ray.exceptions.RayError as error:
            # A rank that hangs or dies breaks the collectives of the others, whose complaint may come first.
            ray.wait(calls, num_returns=len(calls), timeout=GRACE_S)
            if dead := [rank for rank, call in enumerate(calls) if _died(call)]:
                raise LearnerFailed(f"learner rank {_ranks(dead)} died in {method}; see logs/learner-*.log") from error
            if missing := _late(calls):
                raise LearnerFailed(
                    f"learner rank {_ranks(missing)} made no progress in {method} and another failed: {error}"
                ) from error
            raise


def _whole(batch: TokenBatch, parts: list[Scores]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probs and entropies of all response tokens, from the ranks' shares."""
    scores = joined(parts)
    logprobs, entropies = np.empty((2, batch.mask.size), np.float32)
    logprobs[scores.index], entropies[scores.index] = scores.logprobs, scores.entropies
    return logprobs, entropies


def _late(calls: list[Any]) -> list[int]:
    """Ranks whose call has not returned yet."""
    return [rank for rank, call in enumerate(calls) if not ray.wait([call], timeout=0)[0]]


def _died(call: Any) -> bool:
    try:
        ray.get(call, timeout=0)
    except ray.exceptions.RayActorError as error:
        # The death of an engine that a rank tells of comes as its own failure.
        return not isinstance(error, ray.exceptions.RayTaskError)
    except ray.exceptions.RayError:  # still running, or failed with words of its own
        return False
    return False


def _ranks(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
