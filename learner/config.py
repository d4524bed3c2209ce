"""Settings of the update; defaults and help are in conf/, in the group of the same name as each class."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AlgorithmConfig:
    """Advantages and objective. A setting that the chosen estimator or surrogate does not use is None."""

    estimator: str  # grpo | rloo | reinforce_pp | reinforce_pp_baseline | reinforce | pass_at_k
    normalise: str  # none | group | batch
    std_epsilon: float
    pass_k: int | None
    surrogate: str  # ppo | cispo | sapo | ce_gppo
    ratio: str  # token | sequence
    denominator: str  # tokens | sequences | prompts | constant
    denominator_tokens: int | None
    dual_clip: float | None
    cispo_cap: float | None
    sapo_temperature_positive: float | None
    sapo_temperature_negative: float | None
    ce_gppo_low: float | None
    ce_gppo_high: float | None
    train_on_truncated: bool


@dataclass(frozen=True)
class ClipConfig:
    low: float | None  # None does not bound the ratio
    high: float | None


@dataclass(frozen=True)
class OffPolicyConfig:
    minibatches: int
    epochs: int
    max_staleness: int

    @property
    def updates_per_rollout(self) -> int:
        return self.minibatches * self.epochs


@dataclass(frozen=True)
class ReferenceConfig:
    """The penalty for moving away from a fixed policy."""

    place: str  # none | loss | reward
    coef: float
    estimator: str  # k1 | k2 | k3
    path: str | None  # None: the model the run starts from
    actors: int
    offload: bool
    trust_remote_code: bool


@dataclass(frozen=True)
class CorrectionConfig:
    """Reweighting of tokens by how far the learner's policy is from the engine's that drew them."""

    kind: str  # none | token_truncate | token_mask | sequence_truncate | sequence_mask | geometric_mask
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LearnerConfig:
    ranks: int
    zero_stage: int
    offload_optimizer: bool
    offload_parameters: bool
    optimizer: str  # adamw | sgd
    learning_rate: float
    schedule: str  # constant | linear | cosine
    warmup_updates: int
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    max_grad_norm: float | None
    max_skipped_updates: int
    packing: bool
    row_tokens: int
    tokens_per_microbatch: int
    logprob_chunk_tokens: int
    attention: str  # sdpa | flex_attention | flash_attention_2
    gradient_checkpointing: bool
    lora_rank: int | None
    lora_alpha: float | None
    start_timeout_s: float
    deadline_s: float
    offload_while_drawing: bool
    threads: int | None


@dataclass(frozen=True)
class ProbeConfig:
    """At how many states of a rollout batch the distributions are compared before and after each update."""

    states: int
    responses: int


@dataclass(frozen=True)
class ObjectiveConfig:
    """Everything that the loss of a token depends on."""

    algorithm: AlgorithmConfig
    clip: ClipConfig
    reference: ReferenceConfig
    correction: CorrectionConfig
