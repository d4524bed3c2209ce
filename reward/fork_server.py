"""A single-threaded process that has loaded the verifiers and forks children from itself.

Forking where no thread runs is safe, costs milliseconds instead of the seconds that loading SymPy takes, and lets all
children share the loaded pages. multiprocessing's own fork server would load the main module of a Ray worker, and with
it Ray, in every child. As the parent of all children this process also keeps their ids from being reused until they
are reaped, and kills them when its own client is gone.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reward.child import confine, serve
from reward.verifiers import UnknownVerifier, VerifierImportError, load
from reward.wire import Channel

CONTROL_TIMEOUT_S = 10.0  # a fork or a kill takes milliseconds
PATIENCE_S = 0.5  # between the end of a child's connection and the end of the child
POLL_S = 0.002


class ForkServerDied(RuntimeError):
    """The process that makes children is gone or stuck; whoever owns it must start another."""


@dataclass(frozen=True)
class ForkedChild:
    """A running child: its process id, which is its process group too, and the channel to it."""

    pid: int
    channel: Channel


class ForkServer:
    """The client's side. Thread-safe."""

    def __init__(
        self,
        verifiers: Collection[str],
        settings: Mapping[str, Any],
        memory_mb: int,
        growth_mb: int,
        start_timeout_s: float,
    ):
        """Starts the process and waits until it has loaded `verifiers` with their `settings`.

        memory_mb  beyond what it starts with, a child may use so much in one verification
        growth_mb  and may keep so much after it

        Raises `VerifierImportError` where one cannot be loaded, and `ForkServerDied`.
        """
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        arguments = {
            "fd": theirs.fileno(),
            "verifiers": sorted(verifiers),
            "settings": settings,
            "memory_bytes": memory_mb << 20,
            "growth_bytes": growth_mb << 20,
            "start_timeout_s": start_timeout_s,
        }
        search_path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        # Math libraries are loaded without threads of their own: they would not survive a fork.
        single_threaded = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reward.fork_server", json.dumps(arguments)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what verifiers print is for a person; our own standard output may hold data
            process_group=0,  # Ctrl-C in a terminal is for us to act on
            env={**os.environ, **single_threaded, "PYTHONPATH": search_path},
        )
        theirs.close()
        self._control = Channel(ours)
        try:
            problem = self._receive(time.monotonic() + start_timeout_s)["problem"]
        except BaseException:
            self._process.kill()  # while it imports it would not hear that the connection is closed
            self.close()
            raise
        if problem:
            self.close()
            raise VerifierImportError(problem)

    def fork(self) -> ForkedChild:
        """A fresh child. Raises `ForkServerDied`."""
        ours, theirs = socket.socketpair()
        with theirs:
            reply = self._ask({"do": "fork"}, theirs.fileno())
        return ForkedChild(reply["pid"], Channel(ours))

    def kill(self, child: ForkedChild) -> None:
        """Kills a child with its process group. Raises `ForkServerDied`."""
        self._end(child, 0.0)

    def bury(self, child: ForkedChild) -> int | None:
        """How a child ended whose connection did: its exit code, or minus the signal; None where it went on running.

        Kills its process group in any case. Raises `ForkServerDied`.
        """
        return self._end(child, PATIENCE_S)

    def close(self) -> None:
        """Ends the process and every child of it."""
        self._control.close()
        try:
            self._process.wait(CONTROL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(CONTROL_TIMEOUT_S)

    def _end(self, child: ForkedChild, patience_s: float) -> int | None:
        child.channel.close()
        return self._ask({"do": "end", "pid": child.pid, "patience_s": patience_s})["exit_code"]

    def _ask(self, message: dict, descriptor: int | None = None) -> dict:
        with self._lock:
            try:
                descriptors = [] if descriptor is None else [descriptor]
                socket.send_fds(self._control.sock, [json.dumps(message).encode()], descriptors)
            except OSError as error:
                raise ForkServerDied(f"the fork server of the verifiers is gone: {error}") from error
            return self._receive(time.monotonic() + CONTROL_TIMEOUT_S)

    def _receive(self, deadline: float) -> dict:
        try:
            return json.loads(self._control.receive(deadline))
        except OSError as error:  # closed, reset or late; a late reply must not answer the next question
            self._control.close()
            raise ForkServerDied(f"the fork server of the verifiers gave no answer: {error}") from error


def main(arguments: dict) -> None:
    """Serves forks and kills on the inherited socket until its far end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = Channel(socket.socket(fileno=arguments["fd"]))
    control.sock.set_inheritable(False)
    # An import can hang where no exception reaches it; an alarm without a handler ends the process.
    signal.setitimer(signal.ITIMER_REAL, arguments["start_timeout_s"])
    try:
        verifiers = {name: load(name, arguments["settings"]) for name in arguments["verifiers"]}
    except (UnknownVerifier, VerifierImportError) as error:
        control.send(json.dumps({"problem": str(error)}).encode(), deadline=None)
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.freeze()  # collections in the children then leave the shared pages alone
    control.send(json.dumps({"problem": ""}).encode(), deadline=None)

    children: set[int] = set()
    try:
        # Lock step: the client sends nothing before the reply, so one read is one message.
        while (received := socket.recv_fds(control.sock, 4096, 1))[0]:
            request = json.loads(received[0])
            if request["do"] == "fork":
                pid = _fork(control, received[1][0], verifiers, arguments)
                children.add(pid)
                reply: dict[str, int | None] = {"pid": pid}
            else:
                children.remove(request["pid"])
                reply = {"exit_code": _end(request["pid"], request["patience_s"])}
            control.send(json.dumps(reply).encode(), deadline=None)
    except ConnectionError:
        pass  # the client died between a question and its answer
    finally:
        for pid in children:
            _end(pid, 0.0)


def _fork(control: Channel, descriptor: int, verifiers: dict, arguments: dict) -> int:
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            control.sock.close()  # only this copy: shutting the connection down would cut the server off
            os.setpgid(0, 0)
            confine(parent_pid, arguments["memory_bytes"])
            serve(Channel(socket.socket(fileno=descriptor)), verifiers, arguments["growth_bytes"])
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(code)  # never back into the server's loop
    os.close(descriptor)
    os.setpgid(pid, pid)  # here too: the client may want the group killed before the child has run
    return pid


def _end(pid: int, patience_s: float) -> int | None:
    """Kills the process group of a child; its exit code where it ended by itself within `patience_s`."""
    deadline = time.monotonic() + patience_s
    # WNOWAIT: until it is reaped, its id cannot belong to another process.
    while not (ended := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError):  # it may have left its group
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
