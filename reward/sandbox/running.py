"""One program in the hands of its launcher."""

import contextlib
import fcntl
import marshal
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from reward.sandbox.python import base_executable
from reward.sandbox.types import End, Limits, Outcome, Program, SandboxBroken

GRACE_S = 10.0  # beyond `wall_s`: the start of the launcher and the removal of what the program left
_LONGEST_ANSWER = 1 << 16
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_LAUNCH = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})  # last: a module there has the name of one of the standard library
from launcher.supervisor import main
main()
"""


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

    def __init__(self, program: Program, limits: Limits, settings: dict[str, Any]):
        """`settings`: the rest of the launcher's request. Raises `SandboxBroken`."""
        self._limits = limits
        self._result: Outcome | SandboxBroken | None = None
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
                    "files": dict(program.files),
                    "pass_fds": list(program.pass_fds),
                    "life_line": life_line,
                    "answer": answer,
                }
                asked = _sealed(marshal.dumps(request))
                theirs.callback(os.close, asked)
                stdin = _sealed(program.stdin)
                theirs.callback(os.close, stdin)
                try:
                    self._launcher = subprocess.Popen(
                        [base_executable(), "-I", "-S", "-c", _LAUNCH, str(asked)],
                        stdin=stdin,
                        stdout=self._stdout,
                        stderr=self._stderr,
                        pass_fds=(asked, life_line, answer, *program.pass_fds),
                        env={},
                        cwd="/",
                        start_new_session=True,
                    )
                except OSError as error:
                    raise SandboxBroken(f"the launcher of the sandbox does not start: {error}") from error
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
            answer = self._read_answer()
            self._launcher.wait(max(0.0, self._deadline - time.monotonic()) + GRACE_S)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise SandboxBroken("the launcher of the sandbox did not end the program in time") from error
        finally:
            self._launcher.kill()  # nothing where it has ended; otherwise the program dies with it
            self._launcher.wait(GRACE_S)
        how, _, rest = answer.partition(" ")
        if how == "broken":
            raise SandboxBroken(f"the sandbox failed: {rest}")
        if how not in set(End):
            trace = os.pread(self._stderr, 2000, 0).decode(errors="replace").strip()
            raise SandboxBroken(f"the launcher of the sandbox ended with {self._launcher.returncode}: {trace}")
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

    def _read_answer(self) -> str:
        """One line; "" where the launcher ended without one. Raises `TimeoutError`."""
        remaining = max(0.0, self._deadline - time.monotonic())
        waiting = select.poll()
        waiting.register(self._answer, select.POLLIN)
        if not waiting.poll(remaining * 1000):
            raise TimeoutError
        return os.read(self._answer, _LONGEST_ANSWER).decode(errors="replace").strip()
