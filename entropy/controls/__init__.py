"""The controls there are, and how a configuration becomes them."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from entropy.config import EntropyConfig
from entropy.control import Controls, EntropyControl
from entropy.controls.bonus import AdaptiveBonus, EntropyBonus
from entropy.controls.covariance import ClipCov, KlCov
from entropy.controls.positive_advantage import PositiveAdvantage
from entropy.controls.tokens import EntropyAdvantage, HighEntropy, RandPosClip, SignOnly

# From a section of the configuration, the run's seed and its number of steps.
REGISTRY: dict[str, Callable[[Any, int, int], EntropyControl]] = {
    "clip_cov": lambda config, seed, steps: ClipCov(config, seed),
    "kl_cov": lambda config, seed, steps: KlCov(config, seed),
    "bonus": lambda config, seed, steps: EntropyBonus(config),
    "adaptive_bonus": lambda config, seed, steps: AdaptiveBonus(config),
    "positive_advantage": lambda config, seed, steps: PositiveAdvantage(config, steps),
    "sign_only": lambda config, seed, steps: SignOnly(config),
    "rand_pos_clip": lambda config, seed, steps: RandPosClip(config, seed),
    "high_entropy": lambda config, seed, steps: HighEntropy(config, seed),
    "entropy_advantage": lambda config, seed, steps: EntropyAdvantage(config),
}


def make_controls(config: EntropyConfig, seed: int, total_steps: int) -> Controls:
    """The controls whose sections are given."""
    sections = {field.name: getattr(config, field.name) for field in fields(config)}
    chosen = {name: section for name, section in sections.items() if section is not None}
    return Controls({name: REGISTRY[name](section, seed, total_steps) for name, section in chosen.items()})
