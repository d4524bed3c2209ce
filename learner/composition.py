"""Which settings of the objective go together. Pure; for the check before a run starts."""

from collections.abc import Iterator

from learner.config import ObjectiveConfig
from learner.corrections import KINDS

# The settings that each surrogate needs; they are null under the others.
NEEDS = {
    "ppo": (),
    "cispo": ("cispo_cap",),
    "sapo": ("sapo_temperature_positive", "sapo_temperature_negative"),
    "ce_gppo": ("ce_gppo_low", "ce_gppo_high"),
}


def problems(config: ObjectiveConfig) -> Iterator[str]:
    """Sentences about settings that mean nothing together, or of which one has no effect; none where all is well.

    Single values are taken to be in range.
    """
    yield from _surrogate(config)
    yield from _sequence_ratio(config)
    yield from _denominator(config)
    yield from _correction(config)
    yield from _reference(config)


def _surrogate(config: ObjectiveConfig) -> Iterator[str]:
    algorithm, clip = config.algorithm, config.clip
    for owner, settings in NEEDS.items():
        for setting in settings:
            value = getattr(algorithm, setting)
            if owner == algorithm.surrogate and value is None:
                yield f"algorithm.surrogate = {owner} needs algorithm.{setting}, and it is null."
            if owner != algorithm.surrogate and value is not None:
                yield (
                    f"algorithm.{setting} = {value} belongs to the surrogate {owner}, and algorithm.surrogate is "
                    f"{algorithm.surrogate}; set it to null."
                )
    if algorithm.dual_clip is not None and algorithm.surrogate != "ppo":
        yield (
            f"algorithm.dual_clip = {algorithm.dual_clip} bounds the loss of the surrogate ppo, and "
            f"algorithm.surrogate is {algorithm.surrogate}; set it to null."
        )
    bounded = clip.low is not None or clip.high is not None
    if bounded and algorithm.surrogate in ("cispo", "sapo"):
        yield (
            f"clip.low = {clip.low} and clip.high = {clip.high} have no effect under "
            f"algorithm.surrogate = {algorithm.surrogate}; choose clip=none."
        )
    if not bounded and algorithm.surrogate == "ce_gppo":
        yield "algorithm.surrogate = ce_gppo acts outside clip.low and clip.high, and both are null; give one."


def _sequence_ratio(config: ObjectiveConfig) -> Iterator[str]:
    if config.algorithm.ratio != "sequence":
        return
    if config.algorithm.surrogate == "ce_gppo":
        yield (
            "algorithm.ratio = sequence leaves algorithm.surrogate = ce_gppo no single clipped token whose gradient it "
            "could keep; set algorithm.ratio=token."
        )
    if config.correction.kind in ("token_truncate", "token_mask"):
        yield (
            f"correction.kind = {config.correction.kind} weighs single tokens, and with algorithm.ratio = sequence "
            "every token's surrogate moves the whole sequence; take a kind for sequences."
        )


def _denominator(config: ObjectiveConfig) -> Iterator[str]:
    algorithm = config.algorithm
    if algorithm.denominator == "constant" and algorithm.denominator_tokens is None:
        yield "algorithm.denominator = constant needs algorithm.denominator_tokens, and it is null."
    if algorithm.denominator != "constant" and algorithm.denominator_tokens is not None:
        yield (
            f"algorithm.denominator_tokens = {algorithm.denominator_tokens} has no effect under "
            f"algorithm.denominator = {algorithm.denominator}; set it to null."
        )


def _correction(config: ObjectiveConfig) -> Iterator[str]:
    correction = config.correction
    low, high, (_, action) = correction.low, correction.high, KINDS[correction.kind]
    chosen = f"correction.kind = {correction.kind}"
    if action == "none" and (low is not None or high is not None):
        yield f"{chosen} uses neither correction.low = {low} nor correction.high = {high}; set both to null."
    if action == "truncate" and high is None:
        yield f"{chosen} caps at correction.high, and it is null."
    if action == "truncate" and low is not None:
        yield f"{chosen} has no lower bound; set correction.low = {low} to null, or take a kind that masks."
    if action in ("mask", "select"):
        if low is None and high is None:
            yield f"{chosen} needs correction.low, correction.high or both, and both are null."
        if (low is not None and low > 1) or (high is not None and high < 1):
            yield f"{chosen} with correction.low = {low} and correction.high = {high} drops tokens without mismatch."


def _reference(config: ObjectiveConfig) -> Iterator[str]:
    reference = config.reference
    if reference.place == "none" and reference.coef:
        yield f"reference.coef = {reference.coef} has no effect with reference.place = none."
    if reference.place != "none" and not reference.coef:
        yield f"reference.place = {reference.place} charges nothing with reference.coef = 0; raise it."
