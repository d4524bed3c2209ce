"""One program in the hands of its launcher."""

import contextlib
import fcntl
import marshal
import os
import select
import signal
import tempfile
import time
from types import TracebackType
from typing import Any

from reward.sandbox.launching import Launchers
from reward.sandbox.types import End, Limits, Outcome, Program, SandboxBroken

GRACE_S = 10.0  # beyond `wall_s`: the start of the launcher and the removal of what the program left
_LONGEST_ANSWER = 1 << 16
_MARSHAL = 4  # the format that every Python 3 reads: the launcher's may be another one than ours
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def _sealed(content: bytes) -> int:
    """A descriptor to read `content` from, which nobody can change."""
    writable = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(writable, "wb") as file:
        file.write(content)
        file.flush()
        fcntl.fcntl(writable, fcntl.F_ADD_SEALS, _SEALS)
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)


def _output() -> int:
    # A file and not a pipe: nobody has to keep reading, and nobody who keeps it open can make us wait.
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    return descriptor


class Running:
    """A started program. As a context manager it ends the program on the way out. For one thread at a time.

    A program whose caller ends, in whatever way, is ended with all its processes.
    """

    def __init__(self, program: Program, limits: Limits, settings: dict[str, Any], launchers: Launchers):
        """`settings`: the rest of the launcher's request. Raises `SandboxBroken`."""
        self._limits = limits
        self._result: Outcome | SandboxBroken | None = None
        self._told = b""
        self._open = contextlib.ExitStack()
        self._deadline = time.monotonic() + limits.wall_s + GRACE_S
        with contextlib.ExitStack() as on_failure:
            on_failure.push(self._open)
            self._stdout, self._stderr = self._keep(_output()), self._keep(_output())
            life_line, self._life_line = os.pipe()
            self._answer, answer = os.pipe()
            self._keep(self._answer)
            self._held = open(self._life_line, "wb", buffering=0)  # noqa: SIM115 -- closed by `kill`
            self._open.callback(self._held.close)
            with contextlib.ExitStack() as theirs:
                for descriptor in (life_line, answer):
                    theirs.callback(os.close, descriptor)
                request = {
                    **vars(limits),
                    **settings,
                    "temporary": tempfile.gettempdir(),
                    "argv": list(program.argv),
                    "module": program.module,
                    "files": dict(program.files),
                    "pass_fds": list(program.pass_fds),
                }
                asked = _sealed(marshal.dumps(request, _MARSHAL))
                theirs.callback(os.close, asked)
                stdin = _sealed(program.stdin)
                theirs.callback(os.close, stdin)
                launchers.launch([stdin, self._stdout, self._stderr, asked, life_line, answer, *program.pass_fds])
            on_failure.pop_all()

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._result is None:
            self.kill()
            self.wait()

    def wait(self) -> Outcome:
        """Blocks until the end, at most `wall_s` and a short grace; may be called again. Raises `SandboxBroken`."""
        if self._result is None:
            with self._open:
                try:
                    self._result = self._ended()
                except SandboxBroken as error:
                    self._result = error
        if isinstance(self._result, SandboxBroken):
            raise self._result
        return self._result

    def kill(self) -> None:
        """Ends the program with all its processes; does nothing where it has ended. `wait` gives the outcome."""
        self._held.close()

    def _keep(self, descriptor: int) -> int:
        self._open.callback(os.close, descriptor)
        return descriptor

    def _ended(self) -> Outcome:
        try:
            self._tell(2)
        except TimeoutError as error:
            self._kill_launcher()
            raise SandboxBroken("the launcher of the sandbox did not end the program in time") from error
        answer = self._told.decode(errors="replace").partition("\n")[2].strip()
        how, _, rest = answer.partition(" ")
        if how == "broken":
            raise SandboxBroken(f"the sandbox failed: {rest}")
        if how not in set(End):
            raise SandboxBroken("the launcher of the sandbox was killed")
        code, seconds = rest.split()
        most = self._limits.output_bytes
        stdout, stderr = (os.pread(descriptor, most, 0) for descriptor in (self._stdout, self._stderr))
        sizes = (os.fstat(descriptor).st_size for descriptor in (self._stdout, self._stderr))
        return Outcome(
            end=End(how),
            exit_code=int(code),
            stdout=stdout,
            stderr=stderr,
            seconds=float(seconds),
            truncated=any(size > most for size in sizes),
        )

    def _tell(self, lines: int) -> None:
        """Waits for lines of the launcher, first its process id, then its answer, or its end. Raises `TimeoutError`."""
        waiting = select.poll()
        waiting.register(self._answer, select.POLLIN)
        while self._told.count(b"\n") < lines:
            remaining = max(0.0, self._deadline - time.monotonic())
            if not waiting.poll(remaining * 1000):
                raise TimeoutError
            part = os.read(self._answer, _LONGEST_ANSWER)
            if not part:
                return
            self._told += part

    def _kill_launcher(self) -> None:
        """The program dies with it. Only before it has answered."""
        if not self._told:
            return  # it was never forked, and no program either
        launcher = os.pidfd_open(int(self._told.partition(b"\n")[0]))
        try:
            closed = select.poll()
            closed.register(self._answer, 0)
            if not closed.poll(0):  # it lives, so the id is its own
                signal.pidfd_send_signal(launcher, signal.SIGKILL)
        finally:
            os.close(launcher)
