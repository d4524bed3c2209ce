"""What goes into the sandbox and what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reward.sandbox.config import SandboxConfig


class Isolation(IntEnum):
    """How far a program is kept away from the machine; `reward.sandbox` says what each level protects from.

    LIMITS      limits on what it uses, and all its processes end with it; nothing is hidden from it
    CONFINED    besides, the kernel refuses it files (Landlock), sockets and other processes (seccomp)
    NAMESPACED  besides, it has a file system, a network and process ids of its own
    """

    LIMITS = 1
    CONFINED = 2
    NAMESPACED = 3


@dataclass(frozen=True)
class Limits:
    """What one program may use, with all processes it starts.

    wall_s        seconds from its start to its end
    cpu_s         seconds of processor time
    memory_bytes  address space of each process, and resident memory of all of them together
    processes     processes and threads at a time
    file_bytes    size of one file, and of everything in the scratch folder together
    output_bytes  of stdout, and of stderr
    """

    wall_s: float
    cpu_s: float
    memory_bytes: int
    processes: int
    file_bytes: int
    output_bytes: int

    @classmethod
    def of(cls, config: "SandboxConfig", wall_s: float) -> "Limits":
        """One that may take `wall_s` seconds, on one core or several."""
        return cls(
            wall_s=wall_s,
            cpu_s=wall_s,
            memory_bytes=config.memory_mb << 20,
            processes=config.processes,
            file_bytes=config.file_mb << 20,
            output_bytes=config.output_kb << 10,
        )


@dataclass(frozen=True)
class Program:
    """A command and what it finds.

    argv      the command; `Sandbox.python_argv` writes it for a Python script
    module    "" for a command; otherwise one of the modules that the sandbox has loaded: its `main` runs in a fork of
              the Python that did, which costs a quarter of starting one, with `argv` as its `sys.argv`
    files     contents by relative path, placed in the scratch folder, which is the working directory
    stdin     what standard input holds (an ordinary file, read only)
    pass_fds  descriptors it inherits under the same numbers, as with `subprocess`; the caller closes its own copies
    """

    argv: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    stdin: bytes = b""
    pass_fds: tuple[int, ...] = ()
    module: str = ""


class End(StrEnum):
    """How a program ended. Only the first two are its own doing; after the others it was killed.

    EXITED     by itself, with `exit_code` >= 0. This includes a Python program with a `MemoryError`: an allocation
               beyond `memory_bytes` is refused, and what the program makes of that is its own affair
    SIGNALLED  by a signal: `exit_code` is minus its number
    WALL_TIME  `wall_s` was over
    CPU_TIME   `cpu_s` was used up
    MEMORY     its processes together held more than `memory_bytes`
    OUTPUT     stdout or stderr grew beyond `output_bytes`
    FILES      the scratch folder, or one file, grew beyond `file_bytes`, where the program could not be told so
    KILLED     by `Running.kill`
    """

    EXITED = "exited"
    SIGNALLED = "signalled"
    WALL_TIME = "wall_time"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    OUTPUT = "output"
    FILES = "files"
    KILLED = "killed"


@dataclass(frozen=True)
class Outcome:
    """What a program left. Nothing of it runs any more, and its scratch folder is gone.

    exit_code  of the program, or minus the signal that ended it (-9 where the sandbox killed it)
    stdout     at most `output_bytes` of it, and so for stderr
    seconds    from its start to its end
    truncated  whether stdout or stderr held more than was kept
    """

    end: End
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    truncated: bool


class SandboxUnavailable(RuntimeError):
    """The machine offers less isolation than the configuration asks for; the text names the setting."""


class SandboxBroken(RuntimeError):
    """The sandbox itself failed. It says nothing about the program, and must never become a score."""
