"""How the settings of a method go together: each that its parts use is given, and none that they would ignore."""

from collections.abc import Iterator

from launch.config import RunConfig

# Settings of `algorithm` that a surrogate needs, and that the others ignore.
SURROGATE_NEEDS = {
    "ppo": (),
    "cispo": ("cispo_cap",),
    "sapo": ("sapo_temperature_positive", "sapo_temperature_negative"),
    "ce_gppo": ("ce_gppo_low", "ce_gppo_high"),
}
# Estimators that know right and wrong alone.
BINARY = ("pass_at_k", "reinforce")
# Surrogates that look at `clip`.
CLIPPED = ("ppo", "ce_gppo")
# Kinds of correction that cap a ratio; the others drop what is out of bounds.
TRUNCATIONS = ("token_truncate", "sequence_truncate")
# Kinds of correction that look at each token by itself.
PER_TOKEN = ("token_truncate", "token_mask")


def method_problems(config: RunConfig) -> Iterator[str]:
    """A sentence for each setting to change. Every setting by itself is within its limits."""
    yield from _estimator(config)
    yield from _surrogate(config)
    yield from _denominator(config)
    yield from _reference(config)
    yield from _correction(config)


def _estimator(config: RunConfig) -> Iterator[str]:
    algorithm, samples = config.algorithm, config.rollout.samples_per_prompt
    estimator, k = algorithm.estimator, algorithm.pass_k
    if estimator != "pass_at_k" and k is not None:
        yield _inert(f"algorithm.pass_k = {k}", f"algorithm.estimator = {estimator}")
    if estimator == "pass_at_k" and k is None:
        yield "algorithm.pass_k is needed under algorithm.estimator = pass_at_k."
    if estimator == "pass_at_k" and k is not None and k >= samples:
        yield (
            f"algorithm.pass_k = {k} has to be below rollout.samples_per_prompt = {samples}: otherwise a group is one "
            "draw of k responses, with nothing to compare it with."
        )
    if estimator in BINARY and config.reference.place == "reward":
        yield (
            f"reference.place = reward makes partial scores, and algorithm.estimator = {estimator} takes 0 and 1 only; "
            "use reference=loss or another algorithm."
        )
    if estimator == "reinforce_pp_baseline" and algorithm.normalise != "batch":
        yield (
            f"algorithm.normalise = {algorithm.normalise} makes algorithm.estimator = reinforce_pp_baseline the same "
            "as grpo; give batch, or the estimator grpo."
        )
    if estimator == "reinforce" and algorithm.normalise != "none":
        yield (
            f"algorithm.normalise = {algorithm.normalise} does not go with algorithm.estimator = reinforce, whose "
            "advantages are 1 and -1 as they are; give none."
        )
    if estimator == "reinforce_pp" and algorithm.normalise == "group":
        yield (
            "algorithm.normalise = group does not go with algorithm.estimator = reinforce_pp, which compares with the "
            "batch; give batch or none."
        )


def _surrogate(config: RunConfig) -> Iterator[str]:
    algorithm, clip, surrogate = config.algorithm, config.clip, config.algorithm.surrogate
    for owner, names in SURROGATE_NEEDS.items():
        for name in names:
            value = getattr(algorithm, name)
            if owner == surrogate and value is None:
                yield f"algorithm.{name} is needed under algorithm.surrogate = {surrogate}."
            if owner != surrogate and value is not None:
                yield _inert(f"algorithm.{name} = {value}", f"algorithm.surrogate = {surrogate}")
    if surrogate != "ppo" and algorithm.dual_clip is not None:
        yield _inert(f"algorithm.dual_clip = {algorithm.dual_clip}", f"algorithm.surrogate = {surrogate}")
    thresholds = {"clip.low": clip.low, "clip.high": clip.high}
    given = [f"{name} = {value}" for name, value in thresholds.items() if value is not None]
    if surrogate not in CLIPPED and given:
        without = "is without effect" if len(given) == 1 else "are without effect"
        yield f"{' and '.join(given)} {without} under algorithm.surrogate = {surrogate}; add clip=none."
    if surrogate == "ce_gppo":
        for name, value in thresholds.items():
            if value is None:
                yield f"{name} is needed under algorithm.surrogate = ce_gppo, which keeps a gradient beyond it."
        if algorithm.ratio == "sequence":
            yield (
                "algorithm.surrogate = ce_gppo keeps gradients of single tokens, and algorithm.ratio = sequence has "
                "one for the sequence; give algorithm.ratio=token."
            )


def _denominator(config: RunConfig) -> Iterator[str]:
    denominator, tokens = config.algorithm.denominator, config.algorithm.denominator_tokens
    if denominator == "constant" and tokens is None:
        yield "algorithm.denominator_tokens is needed under algorithm.denominator = constant."
    if denominator != "constant" and tokens is not None:
        yield _inert(f"algorithm.denominator_tokens = {tokens}", f"algorithm.denominator = {denominator}")


def _reference(config: RunConfig) -> Iterator[str]:
    reference = config.reference
    if reference.place != "none":
        return
    if reference.coef > 0:
        yield f"reference.coef = {reference.coef} is without effect; add reference=loss or reference=reward."
    if reference.path is not None:
        yield f"reference.path = {reference.path} is without effect; add reference=loss or reference=reward."


def _correction(config: RunConfig) -> Iterator[str]:
    kind, low, high = config.correction.kind, config.correction.low, config.correction.high
    if kind == "none":
        for name, value in (("low", low), ("high", high)):
            if value is not None:
                yield _inert(f"correction.{name} = {value}", "correction.kind = none")
        return
    if config.algorithm.ratio == "sequence" and kind in PER_TOKEN:
        yield (
            f"correction.kind = {kind} weighs single tokens, and algorithm.ratio = sequence has one ratio for all of a "
            "sequence; take a kind for sequences, such as correction=sequence_mask."
        )
    if kind in TRUNCATIONS:
        if high is None:
            yield f"correction.high is needed under correction.kind = {kind}, which caps ratios there."
        if low is not None:
            yield _inert(f"correction.low = {low}", f"correction.kind = {kind}, which only caps")
        return
    if low is None and high is None:
        yield f"correction.low or correction.high is needed under correction.kind = {kind}."
    # The ratio is 1 where engine and learner agree.
    if low is not None and low >= 1:
        yield f"correction.low = {low} has to be below 1, or tokens are dropped on which engine and learner agree."
    if high is not None and high <= 1:
        yield f"correction.high = {high} has to be above 1, or tokens are dropped on which engine and learner agree."


def _inert(setting: str, under: str) -> str:
    return f"{setting} is without effect under {under}; give null."
