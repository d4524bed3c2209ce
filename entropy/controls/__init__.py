"""The controls there are, and how a configuration becomes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from entropy.config import EntropyConfig
from entropy.control import Controls, EntropyControl
from entropy.controls.bonus import AdaptiveBonus, EntropyBonus
from entropy.controls.covariance import ClipCov, KlCov
from entropy.controls.positive_advantage import PositiveAdvantage
from entropy.controls.temperature import SamplingTemperature
from entropy.controls.tokens import EntropyAdvantage, HighEntropy, RandPosClip, SignOnly


@dataclass(frozen=True)
class Registered:
    """A control and what to say of it.

    make     from its section of the configuration, the run's seed and its number of steps
    acts_on  what of a token's loss, or of how tokens are drawn, it changes
    entropy  what it does to the entropy of the policy
    source   where it was published
    """

    make: Callable[[Any, int, int], EntropyControl]
    acts_on: str
    entropy: str
    source: str


# By the section of the configuration, in the order of `EntropyConfig`.
REGISTRY = {
    "clip_cov": Registered(
        lambda config, seed, steps: ClipCov(config, seed),
        "weight of the surrogate: 0 at selected tokens",
        "slows its fall",
        "Cui et al., arXiv 2505.22617",
    ),
    "kl_cov": Registered(
        lambda config, seed, steps: KlCov(config, seed),
        "penalty on the log-ratio at selected tokens",
        "slows its fall",
        "Cui et al., arXiv 2505.22617",
    ),
    "bonus": Registered(
        lambda config, seed, steps: EntropyBonus(config),
        "entropy in the loss",
        "raises it",
        "common practice",
    ),
    "adaptive_bonus": Registered(
        lambda config, seed, steps: AdaptiveBonus(config),
        "entropy in the loss",
        "holds it above a target",
        "Skywork-OR1, arXiv 2505.22312",
    ),
    "positive_advantage": Registered(
        lambda config, seed, steps: PositiveAdvantage(config, steps),
        "weight of the surrogate where A > 0",
        "raises it while the weight is low; `guided` and `pi` hold it at a target",
        "Jin et al., arXiv 2511.05993",
    ),
    "sign_only": Registered(
        lambda config, seed, steps: SignOnly(config),
        "weight of the surrogate: 0 at one sign of A",
        "without A < 0 falls fastest, without A > 0 grows",
        "Jin et al., arXiv 2511.05993",
    ),
    "rand_pos_clip": Registered(
        lambda config, seed, steps: RandPosClip(config, seed),
        "weight of the surrogate: 0 at random tokens with A > 0",
        "slows its fall a little",
        "Jin et al., arXiv 2511.05993",
    ),
    "high_entropy": Registered(
        lambda config, seed, steps: HighEntropy(config, seed),
        "weight of the surrogate: 0 at tokens with low entropy",
        "slows its fall",
        "Wang et al., arXiv 2506.01939",
    ),
    "entropy_advantage": Registered(
        lambda config, seed, steps: EntropyAdvantage(config),
        "advantage",
        "lowers it",
        "Cheng et al., arXiv 2506.14758",
    ),
    "temperature": Registered(
        lambda config, seed, steps: SamplingTemperature(config, steps),
        "temperature of the next rollout",
        "holds that of the rollouts where it began",
        "Liao et al., arXiv 2505.18573",
    ),
}


def sections(config: EntropyConfig) -> dict[str, Any]:
    """The sections that are given, by name."""
    given = {name: getattr(config, name) for name in REGISTRY}
    return {name: section for name, section in given.items() if section is not None}


def make_controls(config: EntropyConfig, seed: int, total_steps: int) -> Controls:
    """The controls whose sections are given."""
    return Controls(
        {name: REGISTRY[name].make(section, seed, total_steps) for name, section in sections(config).items()}
    )
