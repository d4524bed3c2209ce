"""Which Python runs inside, and what it needs to see."""

import os
import sys
import sysconfig
from dataclasses import dataclass

_SYSTEM = (
    "/bin",
    "/lib",
    "/lib64",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/alternatives",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

PYTHON_OPTIONS = ("-s", "-S", "-P", "-B")  # no user's site, no site at all, no script folder, no bytecode

# All of it: nothing of the run's own environment reaches a program.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "USER": "sandbox",
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",  # the order of sets must not decide a verdict
    "MALLOC_ARENA_MAX": "1",  # each would reserve 64 MiB of the address space that is limited
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Interpreter:
    """`readable`: folders and files a program sees, its interpreter's among them."""

    executable: str
    readable: tuple[str, ...]


def base_executable() -> str:
    """The interpreter that the virtual environment of this process was made from."""
    return os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]


def package_folders() -> list[str]:
    """Where third-party packages of this process lie."""
    paths = sysconfig.get_paths()
    return sorted({os.path.realpath(paths[name]) for name in ("purelib", "platlib")})


def interpreters(packages: list[str]) -> list[Interpreter]:
    """Those to try, our own first: it may lie in a folder that a program's user cannot enter."""
    found = []
    for path in (base_executable(), "/usr/local/bin/python3", "/usr/bin/python3"):
        executable = os.path.realpath(path)
        prefix = os.path.dirname(os.path.dirname(executable))
        own = [os.path.join(prefix, name) for name in ("bin", "lib", "lib64")]
        # Parents before what lies in them, so that nothing is listed twice where it is mounted.
        readable = tuple(sorted({*_SYSTEM, *own, *packages}))
        candidate = Interpreter(executable, readable)
        if os.path.exists(executable) and candidate not in found:
            found.append(candidate)
    return found
