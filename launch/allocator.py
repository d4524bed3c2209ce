"""What the C library keeps of the memory that a long process has freed."""

import ctypes
import platform

# Parameters of mallopt, as malloc.h has them.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
# Where glibc begins.
LARGE_BYTES = 128 * 1024
ARENAS = 2


def keep_little() -> None:
    """Have every block of `LARGE_BYTES` or more go back to the system when it is freed, and smaller ones of all threads
    come from `ARENAS` arenas, for the rest of this process.

    glibc alone raises that size to the largest such block it has seen freed, up to 32 MiB, and takes what is smaller
    from an arena for each thread, up to eight a core. The holes that buffers of many threads leave there stay. For
    processes that move data: one that computes would have its tensors mapped and zeroed anew each time. Other C
    libraries do not do this and are left alone. Raises OSError where glibc refuses.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    if not (mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(M_ARENA_MAX, ARENAS)):
        raise OSError("glibc refused a limit to the memory that it keeps (mallopt)")
