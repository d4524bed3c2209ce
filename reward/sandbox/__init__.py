"""Runs programs that nobody has read."""

from reward.sandbox.config import SandboxConfig
from reward.sandbox.running import Running
from reward.sandbox.sandbox import Sandbox
from reward.sandbox.types import (
    End,
    Isolation,
    Limits,
    Outcome,
    Program,
    SandboxBroken,
    SandboxUnavailable,
)

__all__ = [
    "End",
    "Isolation",
    "Limits",
    "Outcome",
    "Program",
    "Running",
    "Sandbox",
    "SandboxBroken",
    "SandboxConfig",
    "SandboxUnavailable",
]
