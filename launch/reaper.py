"""Ends a private Ray whose driver was killed outright.

Most of its processes end with the driver by themselves, but two of Ray's agents stay for a minute.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

END_S = 10.0  # of a process that was killed


@contextmanager
def fate_shared(processes: Sequence[psutil.Process], folders: Sequence[Path]) -> Iterator[None]:
    """Should this process die inside the context, end `processes` and remove `folders`."""
    named = [f"{process.pid}:{process.create_time()}" for process in processes]
    # A process group of its own, so that what is sent to this one's does not end it.
    watcher = subprocess.Popen(
        [sys.executable, "-P", __file__, os.pathsep.join(map(str, folders)), *named],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert watcher.stdin is not None
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait(END_S)
        watcher.stdin.close()


def main(folders: str, *named: str) -> None:
    """Wait for the end of standard input, whose other end only the driver has; then end the processes `PID:START`."""
    sys.stdin.read()
    for each in named:
        pid, start = each.split(":")
        try:
            process = psutil.Process(int(pid))
            if process.create_time() == float(start):
                process.kill()
        except psutil.NoSuchProcess:
            continue
    for folder in filter(None, folders.split(os.pathsep)):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
