"""What the C library keeps of the memory that a long process has freed."""

import ctypes
import platform

# Where glibc begins, and the parameter of mallopt that says so, as malloc.h has it.
LARGE_BYTES = 128 * 1024
M_MMAP_THRESHOLD = -3


def give_back_large_blocks() -> None:
    """Have every block of `LARGE_BYTES` or more go back to the system when it is freed, for the rest of this process.

    glibc alone raises that size to the largest such block it has seen freed, up to 32 MiB. What is smaller then comes
    from the arena of the thread that asks, and the holes that buffers of many threads leave there stay. For processes
    that move data: one that computes would have its tensors mapped and zeroed anew each time. Other C libraries do
    not do this and are left alone.
    """
    if platform.libc_ver()[0] == "glibc" and not ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES):
        raise OSError(f"glibc refused to map blocks of {LARGE_BYTES} bytes and more (mallopt)")
