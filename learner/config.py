"""Settings of the update; defaults and help are in conf/algorithm, conf/clip, conf/off_policy and conf/learner."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AlgorithmConfig:
    estimator: str  # grpo | rloo
    normalise_by_std: bool
    std_epsilon: float


@dataclass(frozen=True)
class ClipConfig:
    low: float | None  # None does not bound the ratio
    high: float | None


@dataclass(frozen=True)
class OffPolicyConfig:
    minibatches: int
    epochs: int

    @property
    def updates_per_rollout(self) -> int:
        return self.minibatches * self.epochs


@dataclass(frozen=True)
class LearnerConfig:
    ranks: int
    zero_stage: int
    offload_optimizer: bool
    offload_parameters: bool
    learning_rate: float
    schedule: str  # constant | linear | cosine
    warmup_updates: int
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    max_grad_norm: float
    tokens_per_microbatch: int
    logprob_chunk_tokens: int
    gradient_checkpointing: bool
    start_timeout_s: float
    deadline_s: float
    threads: int | None
