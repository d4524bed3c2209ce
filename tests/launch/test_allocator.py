"""Large blocks go back to the system whatever was freed before, and threads share arenas."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

# glibc counts the blocks it has mapped one by one (mallinfo2(3), hblks); what is there before and after a block of
# 1 MiB is asked for, once one of 16 MiB was freed.
MAPPED = """
import ctypes, sys
from launch.allocator import keep_little

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
fields = [(str(number), ctypes.c_size_t) for number in range(10)]
libc.mallinfo2.restype = type("Mallinfo", (ctypes.Structure,), {"_fields_": fields})
mapped = lambda: getattr(libc.mallinfo2(), "3")
if sys.argv[1] == "set":
    keep_little()
libc.free(libc.malloc(16 << 20))
before = mapped()
block = libc.malloc(1 << 20)
print(mapped() - before)
"""


# malloc_info(3) has one element of each arena. Eight threads hold a block at the same time.
ARENAS = """
import ctypes, os, re, sys, tempfile, threading
from launch.allocator import keep_little

libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
if sys.argv[1] == "set":
    keep_little()
together = threading.Barrier(8)
threads = [threading.Thread(target=lambda: (libc.malloc(100), together.wait())) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fdopen(os.dup(file.fileno()), b"w"))
    libc.malloc_info(0, stream), libc.fclose(stream)
    print(len(re.findall("<heap nr", open(file.name).read())))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")


def said(code: str, how: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, how], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize(("how", "mapped"), [("left alone", "0"), ("set", "1")])
def test_a_large_block_is_mapped_after_a_larger_one_was_freed(how, mapped):
    assert said(MAPPED, how) == mapped


def test_threads_share_two_arenas():
    assert int(said(ARENAS, "left alone")) > 2
    assert said(ARENAS, "set") == "2"
