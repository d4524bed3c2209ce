"""The process that forks a launcher for every program, seen from those who have programs to run."""

import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

from reward.sandbox.python import ENVIRONMENT, PYTHON_OPTIONS
from reward.sandbox.types import SandboxBroken

SEND_S = 10.0  # a packet waits for those before it, each of which takes a few milliseconds
END_S = 10.0
_SANDBOX = Path(__file__).parent
_ROOT = _SANDBOX.parents[1]
_SERVE = f"""
import sys
sys.path.append({str(_SANDBOX)!r})  # last: a module there has the name of one of the standard library
from launcher.server import main
main()
"""


class Launchers:
    """For threads, and for processes that are forked from this one: they share the process.

    It is there as long as this object, in whatever process; should it end before, whoever needs it next starts another.
    """

    def __init__(self, executable: str, modules: Sequence[str]):
        """`modules` are loaded for programs to run. Raises `SandboxBroken`."""
        self._executable = executable
        self._modules = modules
        self._lock = threading.Lock()
        self._start()

    def launch(self, descriptors: Sequence[int]) -> None:
        """Hands over the descriptors that `launcher.server` asks for. Raises `SandboxBroken`."""
        for _ in range(2):
            control = self._control
            try:
                socket.send_fds(control, [b"."], descriptors)
                return
            except (BrokenPipeError, ConnectionResetError):
                with self._lock:
                    if self._control is control:
                        self.close()
                        self._start()
            except OSError as error:
                raise SandboxBroken(f"the launcher of the sandbox takes no programs: {error}") from error
        raise SandboxBroken("the launcher of the sandbox ends at once")

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(SEND_S)
        with theirs:
            arguments = [str(theirs.fileno()), str(_ROOT), *self._modules]
            try:
                process = subprocess.Popen(
                    [self._executable, *PYTHON_OPTIONS, "-c", _SERVE, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise SandboxBroken(f"the launcher of the sandbox does not start: {error}") from error
        self.close = weakref.finalize(self, _end, self._control, process, os.getpid())


def _end(control: socket.socket, process: subprocess.Popen, owner: int) -> None:
    control.close()
    if os.getpid() != owner:  # a fork, whose owner still needs it
        return
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_S)
