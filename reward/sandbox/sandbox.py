"""Finds the strongest isolation that works on this machine, and runs programs under it."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from reward.sandbox.config import SandboxConfig
from reward.sandbox.launching import Launchers
from reward.sandbox.python import (
    DEVICES,
    ENVIRONMENT,
    PYTHON_OPTIONS,
    Interpreter,
    interpreters,
    package_folders,
)
from reward.sandbox.running import Running
from reward.sandbox.seccomp import filter_program
from reward.sandbox.types import End, Isolation, Limits, Outcome, Program, SandboxBroken, SandboxUnavailable

_PROBE = Path(__file__).with_name("probe.py").read_bytes()
_PROBE_WALL_S = 20.0
_ANYONES_FILE = "/etc/passwd"

_OPEN = {
    Isolation.NAMESPACED: "no network, no host files or processes",
    Isolation.CONFINED: "no sockets, no files but the system's; the machine's processes and disk are shared",
    Isolation.LIMITS: "limits on resources only; the network and readable files of the machine are open to them",
}


class Sandbox:
    """The strongest isolation this machine offers, found once by trying. Programs may run in parallel, in threads too.

    isolation      the level that every program of this sandbox gets
    package_paths  folders of third-party packages that programs can read, to be appended to their `sys.path`
    """

    isolation: Isolation
    package_paths: tuple[str, ...]

    def __init__(self, config: SandboxConfig, isolation: Isolation | None = None, modules: Sequence[str] = ()):
        """`isolation` asks for exactly that level, as tests of the weaker ones do. `modules` are loaded once, for all
        programs that name one of them: with what they import, every program can read them.

        Raises `SandboxUnavailable` where the machine offers less than `config.minimum`, or not `isolation`.
        """
        self._config = config
        if config.minimum.upper() not in Isolation.__members__:
            raise SandboxUnavailable(f"reward.sandbox.minimum is {config.minimum!r}; known are {_names()}")
        least = Isolation[config.minimum.upper()]
        levels = [isolation] if isolation else sorted((level for level in Isolation if level >= least), reverse=True)
        packages = package_folders() if config.packages else []
        problems = []
        for level in levels:
            for interpreter in interpreters(packages):
                self.isolation, self.package_paths, self._python = level, tuple(packages), interpreter
                try:
                    self._launchers = Launchers(interpreter.executable, modules)
                    self._settings = self._settings_of(level, interpreter)
                    self.package_paths = self._probe(packages)
                    return
                except (SandboxBroken, SandboxUnavailable) as error:
                    problems.append(f"{level.name.lower()} with {interpreter.executable}: {error}")
        wanted = isolation.name.lower() if isolation else config.minimum
        raise SandboxUnavailable(
            f"this machine does not offer the isolation {wanted!r} (reward.sandbox.minimum is {config.minimum!r}): "
            + "; ".join(problems)
        )

    def sentence(self) -> str:
        """For the start-up lines of a run: which isolation is active, and what it leaves open."""
        return f"On this machine programs run {self.isolation.name.lower()} ({_OPEN[self.isolation]})."

    def python_argv(self, *arguments: str) -> tuple[str, ...]:
        """The command for the Python inside. Neither the scratch folder nor `package_paths` are on its `sys.path`
        until the script puts them there; the hash seed is fixed."""
        return (self._python.executable, *PYTHON_OPTIONS, *arguments)

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Runs a program to its end. Raises `SandboxBroken`, and `ValueError` for names of files that lead outside."""
        with self.start(program, limits) as running:
            return running.wait()

    def start(self, program: Program, limits: Limits) -> Running:
        """Starts a program. Raises as `run` does."""
        for name in program.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.name:
                raise ValueError(f"the file {name!r} of a program does not lie in its scratch folder")
        if sum(map(len, program.files.values())) > limits.file_bytes:
            raise ValueError("the files of a program are larger than its scratch folder (reward.sandbox.file_mb)")
        return Running(program, limits, self._settings, self._launchers)

    def _settings_of(self, level: Isolation, interpreter: Interpreter) -> dict[str, Any]:
        needs_filter = level >= Isolation.CONFINED
        return {
            "isolation": int(level),
            "readable": list(interpreter.readable),
            "devices": list(DEVICES),
            "environment": ENVIRONMENT,
            "filter": filter_program(same_user=False) if needs_filter else b"",
            "filter_same_user": filter_program(same_user=True) if needs_filter else b"",
        }

    def _probe(self, packages: list[str]) -> tuple[str, ...]:
        """Package folders readable inside. Raises `SandboxBroken` or `SandboxUnavailable` where this level fails."""
        limits = self._config.limits(_PROBE_WALL_S)
        arguments = ["probe.py", self.isolation.name, str(limits.memory_bytes), _ANYONES_FILE, *packages]
        outcome = self.run(Program(self.python_argv(*arguments), {"probe.py": _PROBE}), limits)
        if outcome.end is not End.EXITED or outcome.exit_code != 0:
            said = outcome.stderr.decode(errors="replace").strip()[-300:]
            raise SandboxUnavailable(f"a trial program ended by {outcome.end} with {outcome.exit_code}: {said}")
        found = json.loads(outcome.stdout)
        if found["broken"]:
            raise SandboxUnavailable(f"a trial program was not kept from {', '.join(found['broken'])}")
        return tuple(found["packages"])


def _names() -> str:
    return ", ".join(level.name.lower() for level in Isolation)
