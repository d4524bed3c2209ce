"""Settings of data sources and of the rollout pool; defaults and help lines live in conf/data and conf/rollout."""

from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class SourceConfig:
    """One set of prompts: a procedural reasoning-gym task, or rows of a JSONL file."""

    kind: str  # reasoning_gym | jsonl
    verifier: str
    template: str  # with {prompt}
    first_row: int
    rows: Optional[int]
    task: Optional[str]
    parameters: dict[str, Any]
    seed: Optional[int]
    path: Optional[str]
    prompt_field: Optional[str]
    gold_field: Optional[str]
    gold_after: Optional[str]


@dataclass(frozen=True)
class DataConfig:
    name: str
    path: Optional[str]
    shuffle: bool
    train: SourceConfig
    evaluation: dict[str, SourceConfig]


@dataclass(frozen=True)
class RolloutConfig:
    engines: int
    adapter: str  # auto | in_process | async
    prompts_per_step: int
    samples_per_prompt: int
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    max_sequences: int
    kv_cache_blocks: Optional[int]
    gpu_memory_utilization: float
    tensor_parallel_size: int
    enforce_eager: bool
    start_timeout_s: float
    deadline_s: float
    weight_transfer: str  # auto | host | nccl | ipc
    bucket_bytes: int
    sync_timeout_s: float
    canary_prompts: int
    canary_bound: float
