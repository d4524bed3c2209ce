"""Which settings of the entropy controls mean something, by themselves and beside the rest of the run."""

import math
from collections.abc import Iterator

from entropy.config import ClipCovConfig, EntropyConfig, PositiveAdvantageConfig
from entropy.controls import sections
from entropy.controls.positive_advantage import NEEDS
from launch.config import RunConfig
from launch.limits import beyond
from rollout.config import SYNCHRONOUS

SCOPES = ("update", "rollout", "microbatch")
SCORES = ("covariance", "first_order")
CHOSEN_BY = ("covariance", "random")
CHOICES = {
    "entropy.clip_cov.bounds": ("absolute", "quantile"),
    "entropy.clip_cov.score": SCORES,
    "entropy.clip_cov.choice": CHOSEN_BY,
    "entropy.clip_cov.scope": SCOPES,
    "entropy.kl_cov.penalty": ("abs", "k2", "k3"),
    "entropy.kl_cov.score": SCORES,
    "entropy.kl_cov.choice": CHOSEN_BY,
    "entropy.kl_cov.scope": SCOPES,
    "entropy.positive_advantage.rule": tuple(NEEDS),
    "entropy.positive_advantage.positive": ("above_zero", "from_zero"),
    "entropy.sign_only.keep": ("positive", "negative"),
}
SHARES = (
    "entropy.clip_cov.rate",
    "entropy.kl_cov.rate",
    "entropy.rand_pos_clip.rate",
    "entropy.high_entropy.share",
    "entropy.temperature.anneal_share",
)
NOT_NEGATIVE = (
    "entropy.kl_cov.coef",
    "entropy.adaptive_bonus.target",
    "entropy.positive_advantage.initial",
    "entropy.positive_advantage.lowest",
    "entropy.positive_advantage.band",
    "entropy.positive_advantage.proportional",
    "entropy.positive_advantage.integral",
    "entropy.entropy_advantage.coef",
)
ABOVE_ZERO = (
    "entropy.adaptive_bonus.step",
    "entropy.high_entropy.share",
    "entropy.positive_advantage.step",
    "entropy.positive_advantage.target",
    "entropy.entropy_advantage.bound",
    "entropy.temperature.target",
    "entropy.temperature.anneal_to",
    "entropy.temperature.lowest",
)
AT_LEAST_TWO = ("entropy.positive_advantage.epochs",)
BOUNDS = (
    (SHARES, lambda value: 0 <= value <= 1, "has to be from 0 to 1"),
    (NOT_NEGATIVE, lambda value: value >= 0, "must not be negative"),
    (ABOVE_ZERO, lambda value: value > 0, "has to be above 0"),
    (AT_LEAST_TWO, lambda value: value >= 2, "has to be at least 2"),
)
# Controls that give every token a weight of its own.
WEIGHTS = ("clip_cov", "positive_advantage", "sign_only", "rand_pos_clip", "high_entropy")


def entropy_problems(config: RunConfig) -> list[str]:
    """Reasons why the controls cannot run with these settings, each a sentence that names the setting to change."""
    if out_of_range := [*_not_finite(config.entropy), *beyond(config, CHOICES, BOUNDS)]:
        return out_of_range
    entropy = config.entropy
    return [
        *_covariance(entropy),
        *_reweighting(entropy, config.steps),
        *_adaptive_bonus(entropy),
        *_temperature(config),
        *_contradictions(entropy),
        *_sequence_ratio(config),
        *([] if entropy.allow_inert else _inert(config)),
    ]


def _not_finite(entropy: EntropyConfig) -> Iterator[str]:
    for name, section in sections(entropy).items():
        for setting, value in vars(section).items():
            if isinstance(value, float) and not math.isfinite(value) and (name, setting) != ("clip_cov", "high"):
                yield f"entropy.{name}.{setting} = {value} has to be a finite number."


def _covariance(entropy: EntropyConfig) -> Iterator[str]:
    if entropy.clip_cov is not None:
        yield from _band(entropy.clip_cov)
    for name, section in (("clip_cov", entropy.clip_cov), ("kl_cov", entropy.kl_cov)):
        if section is None or section.score != "first_order":
            continue
        if section.scope == "rollout":
            yield (
                f"entropy.{name}.score = first_order needs the distributions of the current policy, and "
                f"entropy.{name}.scope = rollout makes no pass to find them; take scope=update, or score=covariance."
            )
        if section.scope == "microbatch":
            yield (
                f"entropy.{name}.score = first_order is not known to the reference implementations, which "
                f"entropy.{name}.scope = microbatch follows; take scope=update, or score=covariance."
            )


def _band(clip_cov: ClipCovConfig) -> Iterator[str]:
    low, high = clip_cov.low, clip_cov.high
    band = f"entropy.clip_cov.low = {low} and entropy.clip_cov.high = {high}"
    if low >= high:
        yield f"{band} leave no band; low has to be below high."
    elif clip_cov.bounds == "quantile" and not 0 <= low < high <= 1:
        yield f"{band} have to be from 0 to 1 with entropy.clip_cov.bounds = quantile."


def _reweighting(entropy: EntropyConfig, steps: int) -> Iterator[str]:
    section = entropy.positive_advantage
    if section is None:
        return
    for setting in sorted({name for names in NEEDS.values() for name in names}):
        value = getattr(section, setting)
        needed = setting in NEEDS[section.rule]
        if needed and value is None:
            yield (
                f"entropy.positive_advantage.rule = {section.rule} needs entropy.positive_advantage.{setting}, and it "
                "is null."
            )
        if not needed and value is not None:
            yield (
                f"entropy.positive_advantage.{setting} = {value} has no effect under "
                f"entropy.positive_advantage.rule = {section.rule}; set it to null."
            )
    yield from _weights(section)
    if section.rule == "epoch" and section.epochs is not None and section.epochs > steps:
        yield f"entropy.positive_advantage.epochs = {section.epochs} parts do not fit into steps = {steps}; lower it."


def _weights(section: PositiveAdvantageConfig) -> Iterator[str]:
    low, high, initial = section.lowest, section.highest, section.initial
    if low is None or high is None:
        return
    bounds = f"entropy.positive_advantage.lowest = {low} and entropy.positive_advantage.highest = {high}"
    if low >= high:
        yield f"{bounds} leave the weight no room; lowest has to be below highest."
    elif initial is not None and not low <= initial <= high:
        yield f"entropy.positive_advantage.initial = {initial} is not between {bounds}."


def _adaptive_bonus(entropy: EntropyConfig) -> Iterator[str]:
    section = entropy.adaptive_bonus
    if section is None:
        return
    bounds = f"entropy.adaptive_bonus.lowest = {section.lowest} and entropy.adaptive_bonus.highest = {section.highest}"
    if section.lowest >= section.highest:
        yield f"{bounds} leave the coefficient no room; lowest has to be below highest."
    elif not section.lowest <= section.initial <= section.highest:
        yield f"entropy.adaptive_bonus.initial = {section.initial} is not between {bounds}."


def _temperature(config: RunConfig) -> Iterator[str]:
    section, rollout = config.entropy.temperature, config.rollout
    if section is None:
        return
    bounds = f"entropy.temperature.lowest = {section.lowest} and entropy.temperature.highest = {section.highest}"
    if section.lowest >= section.highest:
        yield f"{bounds} leave the temperature no room; lowest has to be below highest."
    elif not section.lowest <= rollout.temperature <= section.highest:
        yield f"rollout.temperature = {rollout.temperature}, of the first rollout, is not between {bounds}."
    if rollout.mode != SYNCHRONOUS:
        yield (
            f"entropy.temperature decides after each batch at which temperature the next is drawn, and under "
            f"rollout.mode = {rollout.mode} that has begun by then; give rollout.mode=synchronous, or set "
            "entropy.temperature=null."
        )
    if rollout.filter.oversample > 1:
        yield (
            f"rollout.filter.oversample = {rollout.filter.oversample} leaves groups over for the next batch, and "
            "entropy.temperature has that drawn at another temperature; give 1, or set entropy.temperature=null."
        )


def _contradictions(entropy: EntropyConfig) -> Iterator[str]:
    """Two controls of which one leaves the other nothing to do."""
    if entropy.sign_only is None:
        return
    if entropy.positive_advantage is not None:
        yield (
            f"entropy.sign_only.keep = {entropy.sign_only.keep} leaves one sign of the advantage, and "
            "entropy.positive_advantage weighs one against the other; set one of the two sections to null."
        )
    if entropy.sign_only.keep == "negative" and entropy.rand_pos_clip is not None:
        yield (
            "entropy.sign_only.keep = negative leaves no token with a positive advantage for entropy.rand_pos_clip to "
            "drop; set one of the two sections to null."
        )


def _sequence_ratio(config: RunConfig) -> Iterator[str]:
    if config.algorithm.ratio != "sequence":
        return
    for name in sections(config.entropy):
        if name in (*WEIGHTS, "entropy_advantage"):
            yield (
                f"entropy.{name} steers single tokens, and with algorithm.ratio = sequence every token's surrogate "
                f"moves the whole sequence; set entropy.{name}=null, or algorithm.ratio=token."
            )


def _inert(config: RunConfig) -> Iterator[str]:
    """Controls that do nothing with their settings."""
    entropy, advice = config.entropy, "or set entropy.allow_inert=true to run it all the same"
    if entropy.kl_cov is not None and config.off_policy.updates_per_rollout == 1:
        yield (
            "entropy.kl_cov penalises leaving the policy before the batch's updates, and with off_policy.minibatches x "
            f"off_policy.epochs = 1 no token has left it; raise one of them, {advice}."
        )
    for name, setting, neutral in (
        ("clip_cov", "rate", 0),
        ("kl_cov", "rate", 0),
        ("kl_cov", "coef", 0),
        ("bonus", "coef", 0),
        ("rand_pos_clip", "rate", 0),
        ("high_entropy", "share", 1),
        ("entropy_advantage", "coef", 0),
    ):
        section = getattr(entropy, name)
        if section is not None and getattr(section, setting) == neutral:
            yield f"entropy.{name} does nothing with entropy.{name}.{setting} = {neutral}; change it, {advice}."
    section = entropy.positive_advantage
    if section is not None and section.rule == "constant" and section.initial == 1:
        yield (
            "entropy.positive_advantage does nothing with entropy.positive_advantage.initial = 1 under rule = "
            f"constant; change it, {advice}."
        )
