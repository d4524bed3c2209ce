"""Settings of the sandbox; defaults and help lines live in conf/reward."""

from dataclasses import dataclass

from reward.sandbox.types import Limits


@dataclass(frozen=True)
class SandboxConfig:
    """
    minimum         limits | confined | namespaced: programs are refused where the machine offers less
    packages        whether programs can read the third-party packages of the environment the run is in
    memory_mb       of one program with all its processes, MiB
    processes       processes and threads of one program at a time
    file_mb         what one program may write to its scratch folder, MiB
    output_kb       of stdout, and of stderr, KiB
    """

    minimum: str
    packages: bool
    memory_mb: int
    processes: int
    file_mb: int
    output_kb: int

    def limits(self, wall_s: float) -> Limits:
        """Limits of one program that may take `wall_s` seconds, on one core or several."""
        return Limits.of(self, wall_s)
