"""Runs programs that nobody has read, each in a process of its own, under the strongest isolation the machine offers.

At every level a program
- is limited in time, processor time, memory, processes, open files, the size of files and of its output;
- ends with all its processes, whatever they did to hide (sessions, double forks, ignored signals, stopped processes),
  at its deadline, at its own end, and when whoever started it ends;
- gets a scratch folder that nothing else uses and that is removed, an environment of a few fixed names, no descriptors
  but its standard three and `pass_fds`, and gains no rights by executing setuid programs.

What the levels add:

| protects                                   | limits    | confined                | namespaced                  |
|--------------------------------------------|-----------|-------------------------|-----------------------------|
| files it may not read by its user          | as root   | yes                     | yes                         |
| files that all users may read, /proc       | no        | yes (Landlock)          | yes (a root of its own)     |
| files that all users may write             | no        | yes (Landlock)          | yes                         |
| the network, UNIX sockets                  | no        | yes (seccomp)           | yes (seccomp, no interface) |
| other processes (signals, tracing, limits) | as root   | yes (Landlock, seccomp) | yes (process ids of its own) |
| size of the scratch folder                 | looked at | looked at               | yes (in memory, of a size)  |
| memory outside processes (shared, memfd)   | no        | yes (seccomp)           | yes (seccomp)               |

"As root": where the run is root, programs get a user of their own, and only then. Run by another user, programs have
that user, and `limits` protects from accidents alone. "Looked at": ten times a second, so a program may be beyond the
limit for that long; what it deletes and holds open is not seen.

It does not protect from
- flaws of the kernel: all levels share it with the run;
- reading what every program needs: the interpreter, system libraries and, with `packages`, third-party packages;
- learning about the machine: time, processor, load, and at the levels before namespaced its name and its users' ids;
- knowing where things lie in memory: programs that are a loaded module are forked from one process;
- slowing the machine down within the limits, and being beyond those on all its processes together (memory, processor
  time) until the next look;
- what a program sends to its caller: output and the far end of `pass_fds` are to be read as a stranger's;
- a launcher that is killed from outside, which takes the program with it but leaves a scratch folder on disk.

Needs: Linux on x86-64 or AArch64. Namespaced: namespaces as root or as any user, Linux 5.14. Confined: Landlock, as
root Linux 6.2, as another user Linux 6.12. A trial program finds out; nothing is taken from version numbers.
"""

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
