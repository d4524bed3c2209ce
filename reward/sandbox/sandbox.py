"""Runs programs that nobody has read. (Interface only so far: the methods raise `NotImplementedError`.)"""

from types import TracebackType

from reward.sandbox.config import SandboxConfig
from reward.sandbox.types import Isolation, Limits, Outcome, Program


class Running:
    """A started program. As a context manager it ends it on the way out. For one thread at a time."""

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait(self) -> Outcome:
        """Blocks until the end, at most `wall_s` and a short grace; may be called again. Raises `SandboxBroken`."""
        raise NotImplementedError

    def kill(self) -> None:
        """Ends the program with all its processes; does nothing where it has ended. `wait` still gives the outcome."""
        raise NotImplementedError


class Sandbox:
    """The strongest isolation this machine offers, found once by trying. Programs may run in parallel, in threads too.

    isolation      the level that every program of this sandbox gets
    package_paths  folders of third-party packages that programs can read, to be appended to their `sys.path`
    """

    isolation: Isolation
    package_paths: tuple[str, ...]

    def __init__(self, config: SandboxConfig, isolation: Isolation | None = None):
        """`isolation` asks for exactly that level, as tests of the weaker ones do.

        Raises `SandboxUnavailable` where the machine offers less than `config.minimum`, or not `isolation`.
        """
        raise NotImplementedError

    def sentence(self) -> str:
        """For the start-up lines of a run: which isolation is active, and what it leaves open."""
        raise NotImplementedError

    def python_argv(self, *arguments: str) -> tuple[str, ...]:
        """The command for the Python inside: isolated (`-I`), without `site`, so neither the scratch folder nor
        `package_paths` are on its `sys.path` until the script puts them there."""
        raise NotImplementedError

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Runs a program to its end. Raises `SandboxBroken`."""
        with self.start(program, limits) as running:
            return running.wait()

    def start(self, program: Program, limits: Limits) -> Running:
        """Starts a program. Raises `SandboxBroken`."""
        raise NotImplementedError
