"""What a RunConfig must satisfy before any actor starts, and what its batch sizes imply.

`check` reads the configuration and looks at the files it names; it starts nothing and changes nothing.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch.config import ConfigError, RunConfig
from launch.limits import beyond_limits
from launch.loggers import problems as logger_problems
from launch.model_folder import problems, reference_problems
from launch.ray_job import address_to_join, is_copy
from launch.validate_checkpoint import checkpoint_problems
from launch.validate_colocated import colocated_problems
from launch.validate_data import evaluation_problems, training_problems
from launch.validate_entropy import entropy_problems
from launch.validate_method import method_problems
from launch.validate_reward import reward_problems
from launch.validate_rollout import GROUP_RELATIVE, rollout_problems
from launch.validate_sampling import evaluation_set_problems, sampling_problems
from rollout.config import DataConfig


@dataclass(frozen=True)
class Implied:
    """The batch sizes and what they come to. Token counts are of responses at their longest."""

    steps: int
    prompts_per_step: int
    samples_per_prompt: int
    responses_per_step: int
    minibatches: int
    epochs: int
    updates_per_rollout: int
    prompts_per_update: int
    responses_per_update: int
    max_response_tokens_per_step: int
    max_response_tokens_per_update: int
    total_updates: int


def raise_if_any(config: RunConfig, training: bool = True) -> None:
    """Raise one ConfigError with everything `check` found, a sentence a line."""
    errors = check(config, training)
    if errors:
        raise ConfigError("\n".join(errors))


def check(config: RunConfig, training: bool = True) -> list[str]:
    """All reasons why a run cannot have these settings, each a sentence that names the setting to change.

    Without `training` the sources to train on and the loggers are not looked at: the run only evaluates.
    """
    # With counts out of range the sentences about how they fit together would only repeat them.
    beyond = list(beyond_limits(config))
    fits = [] if beyond else list(_how_they_fit(config, training))
    return [
        *beyond,
        *fits,
        *(entropy_problems(config) if training else []),
        *([] if beyond else checkpoint_problems(config.checkpoint)),
        *(colocated_problems(config) if training else []),
        *sampling_problems(config),
        *evaluation_set_problems(config),
        *_deadlines(config),
        *_programs(config),
        *_offloading(config),
        *_attention(config),
        *_cluster(config),
        *problems(config.model),
        *reference_problems(config.reference),
        *_remote_code(config),
        *_adapters(config),
        *evaluation_problems(config.data),
        *(
            training_problems(config.data, config.rollout.prompts_per_step, config.rollout.samples_per_prompt)
            if training
            else []
        ),
        *(logger_problems(config.logger) if training else []),
    ]


def learner_problems(config: RunConfig) -> list[str]:
    """All reasons why the learner alone cannot have these settings, as `check` has them."""
    return [
        *beyond_limits(config),
        *_offloading(config),
        *_attention(config),
        *problems(config.model),
        *_adapters(config),
    ]


def implied(config: RunConfig) -> Implied:
    """The sizes that `check`ed settings come to."""
    rollout, off_policy = config.rollout, config.off_policy
    responses = rollout.prompts_per_step * rollout.samples_per_prompt
    responses_per_update = responses // off_policy.minibatches
    return Implied(
        steps=config.steps,
        prompts_per_step=rollout.prompts_per_step,
        samples_per_prompt=rollout.samples_per_prompt,
        responses_per_step=responses,
        minibatches=off_policy.minibatches,
        epochs=off_policy.epochs,
        updates_per_rollout=off_policy.updates_per_rollout,
        prompts_per_update=rollout.prompts_per_step // off_policy.minibatches,
        responses_per_update=responses_per_update,
        max_response_tokens_per_step=responses * rollout.max_new_tokens,
        max_response_tokens_per_update=responses_per_update * rollout.max_new_tokens,
        total_updates=config.steps * off_policy.updates_per_rollout,
    )


def sentences(sizes: Implied) -> list[str]:
    """What the batch sizes come to, to be read before a run starts."""
    return [
        f"{sizes.prompts_per_step} prompts x {sizes.samples_per_prompt} samples = {sizes.responses_per_step} responses "
        f"per step, at most {sizes.max_response_tokens_per_step:,} tokens",
        f"{_count(sizes.updates_per_rollout, 'update')} per rollout "
        f"({_count(sizes.minibatches, 'minibatch', 'minibatches')} x {_count(sizes.epochs, 'epoch')}), "
        f"{_count(sizes.prompts_per_update, 'prompt')} = {_count(sizes.responses_per_update, 'response')} each, "
        f"at most {sizes.max_response_tokens_per_update:,} tokens",
        f"{_count(sizes.steps, 'step')} = {_count(sizes.total_updates, 'update')}",
    ]


def _how_they_fit(config: RunConfig, training: bool) -> Iterator[str]:
    yield from method_problems(config)
    yield from rollout_problems(config)
    yield from _batches(config)
    yield from _tokens(config)
    yield from reward_problems(config, training)


def _batches(config: RunConfig) -> Iterator[str]:
    rollout, minibatches, ranks = config.rollout, config.off_policy.minibatches, config.learner.ranks
    if config.algorithm.estimator in GROUP_RELATIVE and rollout.samples_per_prompt < 2:
        yield (
            f"rollout.samples_per_prompt = {rollout.samples_per_prompt} leaves a response nothing to be compared with; "
            f"algorithm.estimator = {config.algorithm.estimator} needs at least 2."
        )
    if rollout.prompts_per_step % minibatches:
        yield (
            f"rollout.prompts_per_step = {rollout.prompts_per_step} does not divide into "
            f"off_policy.minibatches = {minibatches} equal parts."
        )
    responses = rollout.prompts_per_step * rollout.samples_per_prompt
    if responses < minibatches * ranks:
        yield (
            f"learner.ranks = {ranks} is more than the responses of one update: rollout.prompts_per_step x "
            f"rollout.samples_per_prompt = {responses} over off_policy.minibatches = {minibatches}."
        )
    total = implied(config).total_updates
    if config.learner.warmup_updates >= total:
        yield (
            f"learner.warmup_updates = {config.learner.warmup_updates} is not below the {total} updates of the run; "
            "lower it or raise steps."
        )


def _tokens(config: RunConfig) -> Iterator[str]:
    longest = config.rollout.max_new_tokens
    if longest >= config.model.context_tokens:
        yield (
            f"rollout.max_new_tokens = {longest} leaves no room for a prompt in "
            f"model.context_tokens = {config.model.context_tokens}."
        )
    if config.learner.tokens_per_microbatch < longest:
        yield (
            f"learner.tokens_per_microbatch = {config.learner.tokens_per_microbatch} does not hold one response of "
            f"rollout.max_new_tokens = {longest}."
        )


def _deadlines(config: RunConfig) -> Iterator[str]:
    if config.reward.deadline_s < config.reward.timeout_s:
        yield (
            f"reward.deadline_s = {config.reward.deadline_s} ends before a single verdict may, "
            f"reward.timeout_s = {config.reward.timeout_s}."
        )
    if config.learner.deadline_s < config.rollout.sync_timeout_s:
        # Learner ranks wait for each other while rank 0 sends, and no longer than this in any collective.
        yield (
            f"learner.deadline_s = {config.learner.deadline_s} ends before a transfer of weights may, "
            f"rollout.sync_timeout_s = {config.rollout.sync_timeout_s}."
        )


def _programs(config: RunConfig) -> Iterator[str]:
    if "code" not in _verifiers(config.data):
        return
    code, sandbox = config.reward.code, config.reward.sandbox
    if code.total_timeout_s >= config.reward.timeout_s:
        yield (
            f"reward.code.total_timeout_s = {code.total_timeout_s} has to be below "
            f"reward.timeout_s = {config.reward.timeout_s}, or a slow program is a failure instead of a wrong answer."
        )
    if code.test_timeout_s > code.total_timeout_s:
        yield (
            f"reward.code.test_timeout_s = {code.test_timeout_s} is more than all tests of a program have together, "
            f"reward.code.total_timeout_s = {code.total_timeout_s}."
        )
    if sandbox.memory_mb > config.reward.memory_mb:
        # A verifier child's limit holds for the programs it starts too.
        yield (
            f"reward.sandbox.memory_mb = {sandbox.memory_mb} is more than reward.memory_mb = {config.reward.memory_mb} "
            "leaves to what a verifier starts."
        )


def _verifiers(data: DataConfig) -> set[str]:
    sources = [data.train, *data.mix.values(), *data.evaluation.values()]
    return {source.verifier for source in sources if source.kind != "none"}


def _offloading(config: RunConfig) -> Iterator[str]:
    learner = config.learner
    if learner.offload_optimizer and learner.zero_stage == 0:
        yield "learner.offload_optimizer needs learner.zero_stage of 1 or more: at 0 there are no shards to offload."
    if learner.offload_parameters and learner.zero_stage in (0, 1, 2):
        yield f"learner.offload_parameters needs learner.zero_stage = 3, and it is {learner.zero_stage}."


def _attention(config: RunConfig) -> Iterator[str]:
    kernel = config.learner.attention
    if kernel == "flash_attention_2" and config.model.dtype == "float32":
        yield "learner.attention = flash_attention_2 needs model.dtype = bfloat16, and it is float32; use sdpa."
    if kernel in ("flex_attention", "flash_attention_2") and config.cluster.device == "cpu":
        yield f"learner.attention = {kernel} needs GPUs, and cluster.device is cpu; use sdpa."


def _cluster(config: RunConfig) -> Iterator[str]:
    if config.cluster.kind == "ray" and config.cluster.address is None:
        yield "cluster.address is needed for cluster.kind = ray; auto finds the cluster this machine belongs to."
    address = config.cluster.address
    if address is not None and address_to_join(config.cluster.kind, address, os.environ) is None:
        yield (
            f"cluster.address = {address} names a cluster to join, and cluster.kind = {config.cluster.kind} starts a "
            "Ray on this machine; give cluster.kind=ray, or leave the address out."
        )
    if is_copy(Path(config.output.folder)):
        yield (
            f"output.folder = {config.output.folder} is in the copy of the working directory that Ray deletes after "
            "the job; give an absolute folder (hydra.sweep.dir for a sweep)."
        )
    transfer = config.rollout.weight_transfer
    if config.cluster.device == "cpu" and transfer in ("nccl", "ipc"):
        yield f"rollout.weight_transfer = {transfer} needs GPUs, and cluster.device is cpu; use auto or host."
    size = config.rollout.tensor_parallel_size
    if config.cluster.device == "cpu" and size > 1:
        yield f"rollout.tensor_parallel_size = {size} spreads an engine over GPUs, and cluster.device is cpu; give 1."


def _remote_code(config: RunConfig) -> Iterator[str]:
    if config.reference.trust_remote_code and config.reference.path is None:
        yield (
            "reference.trust_remote_code is without effect unless reference.path is given: the reference policy is the "
            "model, for which model.trust_remote_code speaks."
        )


def _adapters(config: RunConfig) -> Iterator[str]:
    learner = config.learner
    if learner.lora_rank is not None and learner.lora_alpha is None:
        yield f"learner.lora_alpha is needed with learner.lora_rank = {learner.lora_rank}."
    if learner.lora_rank is None and learner.lora_alpha is not None:
        yield f"learner.lora_alpha = {learner.lora_alpha} is without effect unless learner.lora_rank is given."


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
