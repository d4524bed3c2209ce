"""What tests of the sandbox share besides fixtures."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from reward.sandbox import Isolation, Limits, Outcome, Program, Running, Sandbox, SandboxConfig

CONFIG = SandboxConfig(minimum="limits", packages=True, memory_mb=256, processes=16, file_mb=8, output_kb=64)
LIMITS = CONFIG.limits(wall_s=20.0)


@dataclass(frozen=True)
class Attack:
    """Runs Python code in one sandbox. Every process of it carries `token` in its command line."""

    sandbox: Sandbox
    token: str

    @property
    def level(self) -> Isolation:
        return self.sandbox.isolation

    def program(self, code: str, *arguments: object, **fields: object) -> Program:
        command = self.sandbox.python_argv("-c", code, *map(str, arguments), self.token)
        return replace(Program(command), **fields)  # type: ignore[arg-type]

    def __call__(self, code: str, *arguments: object, **limits: object) -> Outcome:
        return self.sandbox.run(self.program(code, *arguments), replace(LIMITS, **limits))  # type: ignore[arg-type]

    def start(self, code: str, *arguments: object, limits: Limits = LIMITS, **fields: object) -> Running:
        return self.sandbox.start(self.program(code, *arguments, **fields), limits)


def carriers(token: str) -> list[int]:
    """Processes with `token` in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and token.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def gone(token: str, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while carriers(token):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
