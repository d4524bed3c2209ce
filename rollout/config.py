"""Settings of data sources and of the rollout pool; defaults and help lines live in conf/data and conf/rollout."""

from dataclasses import dataclass
from typing import Any

SYNCHRONOUS, ONE_STEP_OFF, ASYNCHRONOUS = "synchronous", "one_step_off", "asynchronous"
# What becomes of tokens that are more than off_policy.max_staleness weight versions old.
DROP, MASK, KEEP = "drop", "mask", "keep"
# What becomes of responses that take much longer than the others.
LEFT_ALONE, HEDGE = "none", "hedge"


@dataclass(frozen=True)
class SourceConfig:
    """One set of prompts: a procedural reasoning-gym task, or rows of a file or folder; none, only for training."""

    kind: str  # reasoning_gym | file | none (nothing to train on)
    verifier: str
    template: str  # with {prompt}, perhaps {row.<path>}
    first_row: int
    rows: int | None
    task: str | None
    parameters: dict[str, Any]
    seed: int | None
    path: str | None
    prompt_field: Any  # a path within the row, or a list of them
    prompt_wrapper: str | None  # with {prompt}
    gold_field: Any  # a path within the row, or a mapping of names to paths
    gold_after: str | None
    no_reference: str  # refuse | drop
    source_field: str | None  # a path within the row


@dataclass(frozen=True)
class CurriculumConfig:
    """Which prompts are passed over, by their mean pass rate so far."""

    lowest: float | None
    highest: float | None
    revisit_epochs: int | None


@dataclass(frozen=True)
class DataConfig:
    name: str
    path: str | None
    train: SourceConfig
    heldout: int
    mix: dict[str, SourceConfig]
    weights: dict[str, float]
    index: str | None
    curriculum: CurriculumConfig
    evaluation: dict[str, SourceConfig]
    overlap: str  # refuse | drop
    shuffle: bool
    chat: bool
    system: str | None


@dataclass(frozen=True)
class FilterConfig:
    """Which groups are dropped before they are trained on, and others drawn instead."""

    no_signal: bool
    max_failures: int | None
    max_rounds: int
    oversample: int


@dataclass(frozen=True)
class StragglerConfig:
    """What is done about responses that take much longer than the others."""

    policy: str  # none | hedge
    factor: float


@dataclass(frozen=True)
class RolloutConfig:
    mode: str  # synchronous | one_step_off | asynchronous
    stale: str  # drop | mask | keep
    recompute_kv: bool
    filter: FilterConfig
    stragglers: StragglerConfig
    engines: int
    colocated: bool
    sleep_level: int  # 1 | 2
    adapter: str  # auto | in_process | async
    prompts_per_step: int
    samples_per_prompt: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    stop: list[str]
    stop_token_ids: list[int]
    max_new_tokens: int
    max_sequences: int
    kv_cache_blocks: int | None
    gpu_memory_utilization: float
    tensor_parallel_size: int
    enforce_eager: bool
    start_timeout_s: float
    deadline_s: float
    stall_s: float
    restarts: int
    weight_transfer: str  # auto | host | nccl | ipc
    bucket_bytes: int
    sync_timeout_s: float
    canary_prompts: int
    canary_bound: float
