"""Large blocks go back to the system, whatever was freed before."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

# glibc counts the blocks it has mapped one by one (mallinfo2(3), hblks); what is there before and after a block of
# 1 MiB is asked for, once one of 16 MiB was freed.
CODE = """
import ctypes, sys
from launch.allocator import give_back_large_blocks

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
fields = [(str(number), ctypes.c_size_t) for number in range(10)]
libc.mallinfo2.restype = type("Mallinfo", (ctypes.Structure,), {"_fields_": fields})
mapped = lambda: getattr(libc.mallinfo2(), "3")
if sys.argv[1] == "set":
    give_back_large_blocks()
libc.free(libc.malloc(16 << 20))
before = mapped()
block = libc.malloc(1 << 20)
print(mapped() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc raises its threshold")
@pytest.mark.parametrize(("how", "mapped"), [("left alone", 0), ("set", 1)])
def test_a_large_block_is_mapped_after_a_larger_one_was_freed(how, mapped):
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (f"{mapped}\n", "")
