"""What each setting may be, taken by itself: one of a few words, or a number within bounds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from launch.config import RunConfig
from reward.sandbox import Isolation
from rollout.config import ASYNCHRONOUS, DROP, HEDGE, KEEP, LEFT_ALONE, MASK, ONE_STEP_OFF, SYNCHRONOUS
from rollout.memory import DROPPED, KEPT_IN_HOST_MEMORY

CHOICES = {
    "algorithm.estimator": ("grpo", "rloo", "reinforce_pp", "reinforce_pp_baseline", "reinforce", "pass_at_k"),
    "algorithm.normalise": ("none", "group", "batch"),
    "algorithm.surrogate": ("ppo", "cispo", "sapo", "ce_gppo"),
    "algorithm.ratio": ("token", "sequence"),
    "algorithm.denominator": ("tokens", "sequences", "prompts", "constant"),
    "reference.place": ("none", "loss", "reward"),
    "reference.estimator": ("k1", "k2", "k3"),
    "correction.kind": (
        "none",
        "token_truncate",
        "token_mask",
        "sequence_truncate",
        "sequence_mask",
        "geometric_mask",
    ),
    "model.width": (64, 96, 160),
    "data.overlap": ("refuse", "drop"),
    "model.dtype": ("float32", "bfloat16"),
    "reward.on_failure": ("exclude", "wrong", "abort"),
    "reward.math.percent": ("either", "value", "ignore"),
    "reward.math.units": ("ignore", "agree", "require"),
    "reward.instructions.mode": ("strict", "loose"),
    "reward.instructions.score": ("all", "share"),
    "reward.sandbox.minimum": tuple(level.name.lower() for level in Isolation),
    "reward.code.scoring": ("all", "share"),
    "rollout.mode": (SYNCHRONOUS, ONE_STEP_OFF, ASYNCHRONOUS),
    "rollout.stale": (DROP, MASK, KEEP),
    "rollout.stragglers.policy": (LEFT_ALONE, HEDGE),
    "rollout.adapter": ("auto", "in_process", "async"),
    "rollout.sleep_level": (KEPT_IN_HOST_MEMORY, DROPPED),
    "rollout.weight_transfer": ("auto", "host", "nccl", "ipc"),
    "learner.zero_stage": (0, 1, 2, 3),
    "learner.optimizer": ("adamw", "sgd"),
    "learner.schedule": ("constant", "linear", "cosine"),
    "learner.attention": ("sdpa", "flex_attention", "flash_attention_2"),
    "cluster.kind": ("auto", "local", "ray"),
    "cluster.device": ("auto", "cpu", "cuda"),
    "checkpoint.best": ("max", "min"),
    "checkpoint.form": ("portable", "deepspeed"),
    "logger.wandb_mode": ("offline", "online"),
    "output.save_batches": ("recent", "all", "none"),
    "output.display": ("auto", "live", "lines"),
}
AT_LEAST_ONE = (
    "steps",
    "algorithm.pass_k",
    "algorithm.denominator_tokens",
    "off_policy.minibatches",
    "off_policy.epochs",
    "reference.actors",
    "model.context_tokens",
    "reward.workers",
    "reward.children_per_worker",
    "reward.memory_mb",
    "reward.terms.overlong.max_tokens",
    "reward.terms.overlong.cache_tokens",
    "reward.remote.attempts",
    "reward.recycle_after",
    "reward.recycle_growth_mb",
    "reward.sandbox.memory_mb",
    "reward.sandbox.processes",
    "reward.sandbox.file_mb",
    "reward.sandbox.output_kb",
    "data.curriculum.revisit_epochs",
    "rollout.engines",
    "rollout.filter.max_rounds",
    "rollout.filter.oversample",
    "rollout.prompts_per_step",
    "rollout.samples_per_prompt",
    "rollout.max_new_tokens",
    "rollout.max_sequences",
    "rollout.kv_cache_blocks",
    "rollout.tensor_parallel_size",
    "rollout.bucket_bytes",
    "rollout.canary_prompts",
    "probe.responses",
    "learner.ranks",
    "learner.row_tokens",
    "learner.tokens_per_microbatch",
    "learner.logprob_chunk_tokens",
    "learner.lora_rank",
    "learner.threads",
    "cluster.cpus_per_engine",
    "cluster.cpus_per_rank",
    "evaluation.samples_per_prompt",
    "evaluation.max_new_tokens",
    "checkpoint.keep_last",
)
NOT_NEGATIVE = (
    "seed",
    "algorithm.std_epsilon",
    "algorithm.ce_gppo_low",
    "algorithm.ce_gppo_high",
    "off_policy.max_staleness",
    "reference.coef",
    "data.heldout",
    "data.curriculum.lowest",
    "data.curriculum.highest",
    "reward.max_failure_share",
    "reward.terms.truncation_penalty",
    "reward.code.tolerance",
    "rollout.filter.max_failures",
    "rollout.restarts",
    "rollout.top_k",
    "rollout.min_p",
    "probe.states",
    "learner.warmup_updates",
    "learner.weight_decay",
    "learner.max_skipped_updates",
    "evaluation.every",
    "evaluation.temperature",
    "evaluation.top_k",
    "evaluation.min_p",
    "checkpoint.every",
    "checkpoint.keep_best",
    "checkpoint.keep_every",
    "checkpoint.grace_s",
    "checkpoint.restarts",
)
ABOVE_ZERO = (
    "algorithm.cispo_cap",
    "algorithm.sapo_temperature_positive",
    "algorithm.sapo_temperature_negative",
    "clip.low",
    "clip.high",
    "correction.low",
    "correction.high",
    "reward.timeout_s",
    "reward.code.test_timeout_s",
    "reward.code.total_timeout_s",
    "reward.deadline_s",
    "reward.terms.overlong.weight",
    "reward.remote.timeout_s",
    "reward.remote.requests_per_s",
    "rollout.temperature",
    "rollout.top_p",
    "rollout.gpu_memory_utilization",
    "rollout.start_timeout_s",
    "rollout.deadline_s",
    "rollout.stall_s",
    "rollout.sync_timeout_s",
    "rollout.canary_bound",
    "learner.learning_rate",
    "learner.epsilon",
    "learner.max_grad_norm",
    "learner.lora_alpha",
    "learner.start_timeout_s",
    "learner.deadline_s",
    "cluster.start_timeout_s",
    "alarms.entropy_collapse",
    "alarms.truncation",
    "alarms.heldout_fall",
    "alarms.no_signal",
    "alarms.verifier_failures",
    "logger.timeout_s",
    "evaluation.top_p",
    "checkpoint.write_deadline_s",
    "checkpoint.must_save_by_s",
)
AT_MOST_ONE = (
    "clip.low",
    "alarms.entropy_collapse",
    "alarms.truncation",
    "alarms.heldout_fall",
    "alarms.no_signal",
    "alarms.verifier_failures",
    "data.curriculum.lowest",
    "data.curriculum.highest",
    "reward.max_failure_share",
    "rollout.top_p",
    "rollout.min_p",
    "rollout.gpu_memory_utilization",
    "evaluation.top_p",
    "evaluation.min_p",
)
ABOVE_ONE = (
    "algorithm.dual_clip",
    "alarms.entropy_surge",
    "alarms.length_explosion",
    "alarms.mismatch",
    "alarms.gradient_spike",
    "rollout.stragglers.factor",
)
BELOW_ONE = ("learner.beta1", "learner.beta2", "reward.math.tolerance")
BOUNDS = (
    (AT_LEAST_ONE, lambda value: value >= 1, "has to be at least 1"),
    (NOT_NEGATIVE, lambda value: value >= 0, "must not be negative"),
    (ABOVE_ZERO, lambda value: value > 0, "has to be above 0"),
    (AT_MOST_ONE, lambda value: value <= 1, "has to be at most 1"),
    (ABOVE_ONE, lambda value: value > 1, "has to be above 1"),
    (BELOW_ONE, lambda value: 0 <= value < 1, "has to be from 0 to below 1"),
)


Bounds = Sequence[tuple[Sequence[str], Callable[[Any], bool], str]]


def beyond_limits(config: RunConfig) -> Iterator[str]:
    """A sentence for each setting that is none of its choices or out of its bounds. A null has neither."""
    yield from beyond(config, CHOICES, BOUNDS)


def beyond(config: RunConfig, choices: Mapping[str, Sequence[Any]], bounds: Bounds) -> Iterator[str]:
    """Likewise for the settings in `choices` and `bounds`; those of a section that is null are left out."""
    for setting, words in choices.items():
        value = _value(config, setting)
        if value is not None and value not in words:
            yield f"{setting} = {value} is not one of {', '.join(map(str, words))}."
    for settings, holds, sentence in bounds:
        for setting in settings:
            value = _value(config, setting)
            if value is not None and not holds(value):
                yield f"{setting} = {value} {sentence}."


def _value(config: RunConfig, setting: str) -> Any:
    value: Any = config
    for name in setting.split("."):
        value = None if value is None else getattr(value, name)
    return value
