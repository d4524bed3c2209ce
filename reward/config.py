"""Settings of the reward pool; defaults and help lines live in conf/reward."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from reward.code.config import CodeConfig
from reward.sandbox.config import SandboxConfig


@dataclass(frozen=True)
class MathConfig:
    """What counts as the reference answer in mathematics.

    extraction     names in `reward.verifiers.extraction.MATH_RULES`; the first that finds an answer is taken
    tolerance      relative difference allowed where one of two numbers is a decimal; others are compared exactly
    percent        either | value | ignore: what 50% is equal to, 0.5 and 50, 0.5 alone, or 50 alone
    units          ignore | agree | require
    ordered_lists  whether the order of a list without brackets matters; that of sets never does, of tuples always
    """

    extraction: list[str]
    tolerance: float
    percent: str
    units: str
    ordered_lists: bool


@dataclass(frozen=True)
class OverlongConfig:
    """
    cache_tokens  length of the slope before `max_tokens`; None charges nothing
    """

    weight: float
    max_tokens: int
    cache_tokens: int | None


@dataclass(frozen=True)
class TermsConfig:
    """What is added to the score of a row's own verifier, as in `reward.composition`."""

    verifiers: dict[str, float]
    overlong: OverlongConfig
    truncation_penalty: float


@dataclass(frozen=True)
class CountdownConfig:
    all_numbers: bool


@dataclass(frozen=True)
class RemoteConfig:
    """
    timeout_s       for one verdict, with all attempts and pauses
    requests_per_s  of one reward worker; None is no limit
    token_variable  environment variable of the bearer token
    """

    url: str | None
    timeout_s: float
    attempts: int
    requests_per_s: float | None
    token_variable: str | None


@dataclass(frozen=True)
class InstructionsConfig:
    """
    mode   strict | loose
    score  all | share, of the instructions of a prompt
    """

    mode: str
    score: str


@dataclass(frozen=True)
class RewardConfig:
    """
    workers              Ray actors
    children_per_worker  verifications at a time in each actor, one child process each
    timeout_s            for one verification, from the start of its execution
    memory_mb            what one child may allocate beyond the loaded libraries, MiB
    recycle_after        verifications, after which a child is replaced
    recycle_growth_mb    what one child may have gained in memory, MiB, before it is replaced
    on_failure           exclude | wrong | abort
    max_failure_share    share of failed verdicts in a batch, in [0, 1], above which the run stops
    deadline_s           for one whole `RewardPool.verify`
    math                 policy of the verifier math
    sandbox              for verifiers that run programs
    instructions         of the verifier `instructions`
    code                 for the verifier `code`
    """

    workers: int
    children_per_worker: int
    timeout_s: float
    memory_mb: int
    recycle_after: int
    recycle_growth_mb: int
    on_failure: str
    max_failure_share: float
    deadline_s: float
    math: MathConfig
    sandbox: SandboxConfig
    terms: TermsConfig
    countdown: CountdownConfig
    remote: RemoteConfig
    instructions: InstructionsConfig
    code: CodeConfig

    def verifier_settings(self) -> Mapping[str, Any]:
        """The sections for the verifiers, by name, as JSON values."""
        sections = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: asdict(section) for name, section in sections.items() if is_dataclass(section)}  # type: ignore[arg-type]
