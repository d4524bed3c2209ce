"""Settings of the controls; defaults and help are in conf/entropy, a file for each class. None: it is off."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClipCovConfig:
    rate: float
    low: float
    high: float
    bounds: str  # absolute | quantile
    score: str  # covariance | first_order
    choice: str  # covariance | random
    scope: str  # update | rollout | microbatch


@dataclass(frozen=True)
class KlCovConfig:
    rate: float
    coef: float
    penalty: str  # abs | k2 | k3
    score: str  # covariance | first_order
    choice: str  # covariance | random
    scope: str  # update | rollout | microbatch


@dataclass(frozen=True)
class EntropyBonusConfig:
    coef: float


@dataclass(frozen=True)
class AdaptiveBonusConfig:
    target: float
    initial: float
    step: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class PositiveAdvantageConfig:
    """A setting that the rule does not use is None; `entropy.controls.positive_advantage.NEEDS` lists them."""

    rule: str  # constant | stage | epoch | guided | pi
    positive: str  # above_zero | from_zero
    initial: float | None
    lowest: float | None
    highest: float | None
    step: float | None
    target: float | None
    band: float | None
    proportional: float | None
    integral: float | None
    epochs: int | None


@dataclass(frozen=True)
class SignOnlyConfig:
    keep: str  # positive | negative


@dataclass(frozen=True)
class RandPosClipConfig:
    rate: float


@dataclass(frozen=True)
class HighEntropyConfig:
    share: float


@dataclass(frozen=True)
class EntropyAdvantageConfig:
    coef: float
    bound: float


@dataclass(frozen=True)
class TemperatureConfig:
    """A target that is None is the entropy of the first rollout batch."""

    target: float | None
    anneal_share: float
    anneal_to: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class EntropyConfig:
    """One section for each control; those that are not None act together.

    allow_inert  whether a control may be in force whose settings make it do nothing
    """

    clip_cov: ClipCovConfig | None
    kl_cov: KlCovConfig | None
    bonus: EntropyBonusConfig | None
    adaptive_bonus: AdaptiveBonusConfig | None
    positive_advantage: PositiveAdvantageConfig | None
    sign_only: SignOnlyConfig | None
    rand_pos_clip: RandPosClipConfig | None
    high_entropy: HighEntropyConfig | None
    entropy_advantage: EntropyAdvantageConfig | None
    temperature: TemperatureConfig | None
    allow_inert: bool
