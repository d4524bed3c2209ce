"""How drawing goes together with training: modes, staleness, filters. Sentences that name the setting to change."""

from collections.abc import Iterator

from launch.config import RunConfig
from rollout.config import ASYNCHRONOUS, DROP, ONE_STEP_OFF, SYNCHRONOUS

# Estimators whose baseline is what the group scores itself, and those under which a group whose scores are all the same
# has no advantage.
GROUP_RELATIVE = ("grpo", "rloo", "reinforce_pp_baseline")
GROUP_BASELINE = (*GROUP_RELATIVE, "pass_at_k")


def rollout_problems(config: RunConfig) -> Iterator[str]:
    """A sentence for each setting to change. Every setting by itself is within its limits."""
    yield from _mode(config)
    yield from _filter(config)


def rollout_advice(config: RunConfig) -> list[str]:
    """What is worth knowing about the mode before the run starts."""
    rollout, limit = config.rollout, config.off_policy.max_staleness
    if rollout.mode == SYNCHRONOUS:
        return []
    kind = "Groups are drawn one by one" if rollout.mode == ASYNCHRONOUS else "The next batch is drawn"
    lines = [f"{kind} while the learner trains; tokens are up to {limit} weight versions old (rollout.mode)."]
    if limit > 0 and config.correction.kind == "none":
        lines.append(
            "correction.kind = none trains on them as if the learner's weights had drawn them; correction=tis or "
            "another correction reweights them."
        )
    return lines


def _mode(config: RunConfig) -> Iterator[str]:
    rollout, limit = config.rollout, config.off_policy.max_staleness
    if rollout.mode == SYNCHRONOUS and limit != 0:
        yield (
            f"off_policy.max_staleness = {limit} asks for rollouts by older weights, and rollout.mode = synchronous "
            "has none; give 0, or rollout.mode=one_step_off or asynchronous."
        )
    if rollout.mode == ONE_STEP_OFF and limit != 1:
        yield (
            f"off_policy.max_staleness = {limit} has to be 1 under rollout.mode = one_step_off: the next batch is "
            "drawn by the weights before an update."
        )
    if rollout.mode == ASYNCHRONOUS and rollout.adapter == "async":
        yield (
            "rollout.adapter = async does not tell which tokens it drew before weights changed, and rollout.mode = "
            "asynchronous needs that; give rollout.adapter=in_process or auto."
        )
    if rollout.mode == ASYNCHRONOUS and rollout.tensor_parallel_size > 1:
        yield (
            f"rollout.tensor_parallel_size = {rollout.tensor_parallel_size} needs rollout.adapter = async, which "
            "rollout.mode = asynchronous cannot have; give 1."
        )
    if rollout.mode != ASYNCHRONOUS and rollout.stale != DROP:
        yield (
            f"rollout.stale = {rollout.stale} is without effect under rollout.mode = {rollout.mode}, where no token "
            "becomes too old; give drop."
        )
    if rollout.mode != ASYNCHRONOUS and not rollout.recompute_kv:
        yield (
            f"rollout.recompute_kv = false is without effect under rollout.mode = {rollout.mode}, where weights change "
            "while nothing is drawn; give true."
        )


def _filter(config: RunConfig) -> Iterator[str]:
    filtering, samples = config.rollout.filter, config.rollout.samples_per_prompt
    filters = filtering.no_signal or filtering.max_failures is not None
    if filtering.oversample > 1 and not filters:
        yield (
            f"rollout.filter.oversample = {filtering.oversample} is without effect where nothing is filtered; give 1, "
            "or rollout.filter.no_signal=true."
        )
    if filtering.oversample > 1 and config.rollout.mode == ASYNCHRONOUS:
        yield (
            f"rollout.filter.oversample = {filtering.oversample} draws groups together, and rollout.mode = "
            "asynchronous has no batch to fill: its engines are busy anyway; give 1."
        )
    if not filters:
        return
    if filtering.max_rounds < 2:
        yield (
            f"rollout.filter.max_rounds = {filtering.max_rounds} lets the filter drop nothing; give at least 2, or "
            "rollout.filter.no_signal=false and rollout.filter.max_failures=null."
        )
    if filtering.max_failures is not None and filtering.max_failures >= samples:
        yield (
            f"rollout.filter.max_failures = {filtering.max_failures} is without effect: a group has "
            f"rollout.samples_per_prompt = {samples} verdicts; give fewer, or null."
        )
    if filtering.no_signal and samples < 2:
        yield (
            f"rollout.filter.no_signal drops every group of rollout.samples_per_prompt = {samples}: a single score has "
            "nothing to differ from; give false, or more samples."
        )
    if filtering.no_signal and config.algorithm.estimator not in GROUP_BASELINE:
        yield (
            f"rollout.filter.no_signal drops groups that algorithm.estimator = {config.algorithm.estimator} learns "
            "from, whose baseline is not that of the group; give false."
        )
