"""One learner rank as a Ray actor. Heavy imports wait for `start`, so that logs and environment are set first."""

import socket
from typing import Any

import numpy as np

from learner.config import ClipConfig, LearnerConfig
from learner.metrics import Tally
from learner.network import use_reachable_interface
from learner.types import Passes, TokenBatch, UpdatePlan


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
        clip: ClipConfig,
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
        from learner.policy import Policy

        if spread and device == "cpu":
            use_reachable_interface(ray.util.get_node_ip_address())
        join_group(self.rank, self.ranks, master, device, config.deadline_s)
        self.model = DeepSpeedModel(config, model_path, dtype, trust_remote_code)
        self.policy = Policy(self.model, temperature, config.logprob_chunk_tokens, config.tokens_per_microbatch)
        self._clip = clip

    def connect_engines(
        self, engines: list[Any], workers_per_engine: int, transport: str, bucket_bytes: int, timeout_s: float
    ) -> None:
        """Open the weight transfer to the rollout actors."""
        from learner.weights import EngineClient, open_sender

        client = EngineClient(engines, workers_per_engine, timeout_s) if self.rank == 0 else None
        self._sender = open_sender(transport, self.model, client, self.rank, bucket_bytes)

    def score(self, batch: TokenBatch, passes: tuple[Passes, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices into the response tokens that this rank scored, their log-probs and exact entropies."""
        return self.policy.score(batch, passes[self.rank])

    def update(self, batch: TokenBatch, updates: list[UpdatePlan]) -> Tally:
        """All updates of a rollout batch; returns this rank's share of their metrics."""
        from learner.update import apply_updates

        return apply_updates(self.model, self.policy, self._clip, batch, updates, self.rank)

    def score_sequences(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities at temperature 1 of each sequence's tokens after its first; whole on every rank."""
        return self.policy.score_sequences(sequences)

    def send_weights(self, version: int) -> int:
        return self._sender.send(version)

    def save(self, folder: str) -> None:
        """Write the model as a Hugging Face folder; rank 0 writes, all ranks gather."""
        from learner.export import save_model

        save_model(self.model, folder, write=self.rank == 0)
