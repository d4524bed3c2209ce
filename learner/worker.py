"""One learner rank as a Ray actor. Heavy imports wait for `start`, so that logs and environment are set first."""

import resource
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np

from entropy.config import EntropyConfig
from learner.accounting import ModelShape, RankProfile, peak_flops
from learner.config import LearnerConfig, ObjectiveConfig, ProbeConfig
from learner.metrics import Tally
from learner.network import use_reachable_interface
from learner.snapshots import Header, NativePart, StateMismatch, Wholes
from learner.types import Passes, Scores, TokenBatch, UpdatePlan


class LearnerWorker:
    """Scores tokens, applies updates, sends weights. Every method runs on all ranks at once."""

    def __init__(self, rank: int, ranks: int):
        self.rank, self.ranks = rank, ranks

    def rendezvous(self) -> tuple[str, int]:
        """Address and a free port of this rank's node; all ranks meet at those of rank 0."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def start(
        self,
        config: LearnerConfig,
        objective: ObjectiveConfig,
        entropy: EntropyConfig,
        probe: ProbeConfig,
        total_steps: int,
        model_path: str,
        dtype: str,
        trust_remote_code: bool,
        seed: int,
        device: str,
        master: tuple[str, int],
        spread: bool,
    ) -> RankProfile:
        """Join the other ranks at `master` and load the model. `spread` says that ranks are on several nodes."""
        import ray
        import torch

        from entropy.controls import make_controls
        from learner.deepspeed_adapter import DeepSpeedModel, join_group
        from learner.head_support import check_model
        from learner.planning import PassLimits
        from learner.policy import Policy
        from learner.probe import Probe
        from learner.steering import Steering, gather_objects

        if device == "cpu" and config.attention != "sdpa":
            raise ValueError(f"learner.attention = {config.attention} needs GPUs, and there are none; use sdpa")
        if spread and device == "cpu":
            use_reachable_interface(ray.util.get_node_ip_address())
        join_group(self.rank, self.ranks, master, device, config.deadline_s)
        self.model = DeepSpeedModel(config, model_path, dtype, trust_remote_code, seed)
        check_model(self.model.model)
        # For what draws numbers in a forward pass, as dropout does: other numbers on every rank.
        torch.manual_seed(int(np.random.SeedSequence((seed, self.rank)).generate_state(1)[0]))
        limits = PassLimits.of(config)
        self.policy = Policy(self.model, config.logprob_chunk_tokens, limits)
        self._objective = objective
        vocabulary = self.model.model.get_output_embeddings().out_features
        controls = make_controls(entropy, seed, total_steps)
        self._steering = Steering(controls, objective.clip, gather_objects, vocabulary)
        self._probe = Probe(probe, seed, limits) if probe.states else None
        name = torch.cuda.get_device_name() if device == "cuda" else device
        return RankProfile(
            ModelShape.of(self.model.model.config), peak_flops(name, dtype), config.lora_rank is not None
        )

    def connect_engines(
        self, engines: list[Any], workers_per_engine: int, transport: str, bucket_bytes: int, timeout_s: float
    ) -> None:
        """Open the weight transfer to the rollout actors."""
        from learner.weights import EngineClient, open_sender

        client = EngineClient(engines, workers_per_engine, timeout_s) if self.rank == 0 else None
        self._sender = open_sender(transport, self.model, client, self.rank, bucket_bytes)

    def score(self, batch: TokenBatch, passes: tuple[Passes, ...]) -> Scores:
        """Of this rank's share of the response tokens."""
        return self.policy.score(batch, passes[self.rank])

    def update(
        self, batch: TokenBatch, updates: list[UpdatePlan], step: int
    ) -> tuple[Tally, Scores, dict[int, str], str | None]:
        """All updates of rollout batch `step` (from 0).

        Returns what `learner.update.Applied` holds, and a parameter of this rank whose state is not finite after them.
        """
        from learner.update import apply_updates

        batch = self._steering.open(batch, step)
        tally, scores, skipped = apply_updates(
            self.model, self.policy, self._objective, self._steering, batch, updates, self.rank, self._probe
        )
        tally.maximum("speed/controls_seconds", self._steering.spent_s)
        tally.maximum("memory/learner_peak_bytes", peak_memory_bytes())
        return tally, scores, skipped, self.model.state.not_finite()

    def next_temperature(self) -> float | None:
        """At which the next rollout is to be drawn; None for the configured one."""
        return self._steering.controls.next_temperature()

    def score_sequences(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities at temperature 1 of each sequence's tokens after its first; whole on every rank."""
        return self.policy.score_sequences(sequences)

    def give_way(self) -> None:
        """Leave what memory of the GPU an engine on it can use while it draws."""
        self.model.give_way()

    def take_back(self) -> None:
        """Have master weights and moments where they are updated."""
        self.model.take_back()

    def send_weights(self, version: int) -> int:
        return self._sender.send(version)

    def snapshot(self, bucket_bytes: int) -> Iterator[Any]:
        """First what is not an array, as `Snapshot` of `learner.snapshots`, then this rank's share of the arrays."""
        yield self._header()
        yield from self.model.state.give(bucket_bytes)

    def snapshot_native(self, folder: str) -> NativePart:
        """Write this rank's part into `folder` in DeepSpeed's own form."""
        try:
            files = self.model.save_native(folder)
        except OSError as error:
            return NativePart(self._header(), [], f"rank {self.rank}: {error.strerror} ({error.filename})")
        return NativePart(self._header(), files, None)

    def restore_native(self, folder: str, header: Header, random: dict[str, np.ndarray]) -> None:
        """Take this rank's part from what `snapshot_native` wrote. Raises StateMismatch."""
        self._check_shapes(header)
        self.model.load_native(folder)
        self._take_small(header, random)

    def _header(self) -> Header:
        import torch

        state = self.model.state
        rng = {"cpu": torch.get_rng_state().numpy()}
        if torch.cuda.is_available():
            rng["cuda"] = torch.cuda.get_rng_state().numpy()
        return Header(state.shapes, state.steps, state.moments, self._steering.controls.state_dict(), rng)

    def begin_restore(self, header: Header, random: dict[str, np.ndarray]) -> None:
        """Prepare for the arrays of a snapshot of any layout. Raises StateMismatch where it is of other parameters.

        random  states of generators by device; those that are not given stay as they are
        """
        self._check_shapes(header)
        self.model.state.begin_take(header.steps, header.moments)
        self._take_small(header, random)

    def _check_shapes(self, header: Header) -> None:
        if lacking := sorted(set(self.model.state.shapes) - set(header.shapes)):
            raise StateMismatch(
                f"the checkpoint lacks {len(lacking)} of the parameters that the model trains, {lacking[0]} among them"
            )

    def _take_small(self, header: Header, random: dict[str, np.ndarray]) -> None:
        import torch

        self._steering.controls.load_state_dict(header.controls)
        if "cpu" in random:
            torch.set_rng_state(torch.tensor(random["cpu"]))
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.tensor(random["cuda"]))

    def restore(self, wholes: Wholes) -> None:
        """Take this rank's share of some whole parameters and their moments."""
        self.model.state.take(wholes)

    def save(self, folder: str) -> None:
        """Write the model as a Hugging Face folder; rank 0 writes, all ranks gather."""
        from learner.export import save_model

        save_model(self.model, folder, write=self.rank == 0)


def peak_memory_bytes() -> int:
    """The most this process has held so far: tensors on the GPU where there is one, else resident memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
