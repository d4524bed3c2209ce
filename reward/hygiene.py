"""What one verification leaves behind for the next in the same child.

Put back after each: working folder, recursion limit, the alarm and its handler, Python's standard streams, the state of
`random`. Noticed, so that the child is replaced: more memory than `recycle_growth_mb`, threads, open files, processes.
Neither: what a verifier changes in modules, its own caches among them, and in `os.environ`; that lasts until
`recycle_after` verifications are over.

All of it together takes some tens of microseconds.
"""

import contextlib
import os
import random
import resource
import signal
import sys

SEED = 0  # of `random` at the start of every verification: a verdict depends on its request alone


def data_bytes() -> int:
    """Private writable memory of this process, which is what `RLIMIT_DATA` limits and what leaks."""
    with open("/proc/self/statm", "rb", buffering=0) as statm:
        return int(statm.read().split()[5]) * resource.getpagesize()


class CleanState:
    """How this process is now: the state to come back to."""

    def __init__(self, growth_bytes: int):
        """`growth_bytes` is how much memory may be gained over now before `leftovers` names it."""
        self._growth_bytes = growth_bytes
        self._folder = os.getcwd()
        self._recursion_limit = sys.getrecursionlimit()
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._data_bytes = data_bytes()
        self._threads = _threads()
        self._free_descriptor = _free_descriptor()
        random.seed(SEED)

    def restore(self) -> None:
        """Puts back what can be put back."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        sys.stdin, sys.stdout, sys.stderr = self._streams
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the verifier closed it, or nobody reads it
                stream.flush()
        os.chdir(self._folder)
        sys.setrecursionlimit(self._recursion_limit)
        random.seed(SEED)

    def leftovers(self) -> str:
        """What cannot be put back, in words; "" where there is nothing."""
        found = []
        grown = data_bytes() - self._data_bytes
        if grown > self._growth_bytes:
            found.append(f"{grown >> 20} MiB of memory")
        if _threads() != self._threads:
            found.append("threads")
        if _free_descriptor() != self._free_descriptor:
            found.append("open files")
        if _has_children():
            found.append("processes")
        return ", ".join(found)


def _threads() -> int:
    return os.stat("/proc/self/task").st_nlink


def _free_descriptor() -> int:
    """The kernel hands out the lowest number that is free, so a file left open, or one closed too many, moves it."""
    descriptor = os.open("/", os.O_PATH | os.O_CLOEXEC)
    os.close(descriptor)
    return descriptor


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
