"""One learner rank as a Ray actor. Heavy imports wait for `start`, so that logs and environment are set first."""

import socket
from typing import Any

import numpy as np

from learner.config import LearnerConfig, ObjectiveConfig
from learner.metrics import Tally
from learner.network import use_reachable_interface
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
        model_path: str,
        dtype: str,
        trust_remote_code: bool,
        temperature: float,
        device: str,
        master: tuple[str, int],
        spread: bool,
    ) -> None:
        """Join the other ranks at `master` and load the model. `spread` says that ranks are on several nodes."""
        import ray

        from learner.deepspeed_adapter import DeepSpeedModel, join_group
        from learner.head_support import check_model
        from learner.planning import PassLimits
        from learner.policy import Policy

        if spread and device == "cpu":
            use_reachable_interface(ray.util.get_node_ip_address())
        join_group(self.rank, self.ranks, master, device, config.deadline_s)
        self.model = DeepSpeedModel(config, model_path, dtype, trust_remote_code)
        check_model(self.model.model)
        limits = PassLimits(config.tokens_per_microbatch, config.row_tokens if config.packing else 0)
        self.policy = Policy(self.model, temperature, config.logprob_chunk_tokens, limits)
        self._objective = objective

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

    def update(self, batch: TokenBatch, updates: list[UpdatePlan]) -> tuple[Tally, Scores]:
        """All updates of a rollout batch: this rank's share of their metrics, and what its first update found."""
        from learner.update import apply_updates

        return apply_updates(self.model, self.policy, self._objective, batch, updates, self.rank)

    def score_sequences(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities at temperature 1 of each sequence's tokens after its first; whole on every rank."""
        return self.policy.score_sequences(sequences)

    def send_weights(self, version: int) -> int:
        return self._sender.send(version)

    def save(self, folder: str) -> None:
        """Write the model as a Hugging Face folder; rank 0 writes, all ranks gather."""
        from learner.export import save_model

        save_model(self.model, folder, write=self.rank == 0)
