"""Settings of the reward pool; defaults and help lines live in conf/reward."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from reward.code.config import CodeConfig
from reward.sandbox.config import SandboxConfig


@dataclass(frozen=True)
class RewardConfig:
    """
    workers              Ray actors
    children_per_worker  verifications at a time in each actor, one child process each
    timeout_s            for one verification, from the start of its execution
    memory_mb            what one child may allocate beyond the loaded libraries, MiB
    on_failure           exclude | wrong | abort
    max_failure_share    share of failed verdicts in a batch, in [0, 1], above which the run stops
    deadline_s           for one whole `RewardPool.verify`
    sandbox              for verifiers that run programs
    code                 for the verifier `code`
    """

    workers: int
    children_per_worker: int
    timeout_s: float
    memory_mb: int
    on_failure: str
    max_failure_share: float
    deadline_s: float
    sandbox: SandboxConfig
    code: CodeConfig

    def verifier_settings(self) -> Mapping[str, Any]:
        """The sections for the verifiers, by name, as JSON values."""
        sections = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: asdict(section) for name, section in sections.items() if is_dataclass(section)}  # type: ignore[arg-type]
