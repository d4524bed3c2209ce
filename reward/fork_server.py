"""A single-threaded process that has loaded the verifiers and forks children from itself.

Forking where no thread runs is safe, costs milliseconds instead of the seconds that loading SymPy takes, and lets all
children share the loaded pages. multiprocessing's own fork server would load the main module of a Ray worker, and with
it Ray, in every child. As the parent of all children this process also keeps their ids from being reused until they
are reaped, and kills them when its own client is gone.
"""

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


class ForkServerDied(RuntimeError):
    """The process that makes children is gone or stuck; whoever owns it must start another."""


@dataclass(frozen=True)
class ForkedChild:
    """A running child: its process id, which is its process group too, and the channel to it."""

    pid: int
    channel: Channel


class ForkServer:
    """The client's side. Thread-safe."""

    def __init__(self, verifiers: Collection[str], settings: Mapping[str, Any], memory_mb: int, start_timeout_s: float):
        """Starts the process and waits until it has loaded `verifiers` with their `settings`.

        Raises `VerifierImportError` where one cannot be loaded, and `ForkServerDied`.
        """
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        arguments = {
            "fd": theirs.fileno(),
            "verifiers": sorted(verifiers),
            "settings": settings,
            "memory_bytes": memory_mb << 20,
            "start_timeout_s": start_timeout_s,
        }
        search_path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        # Math libraries are loaded without threads of their own: they would not survive a fork.
        single_threaded = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reward.fork_server", json.dumps(arguments)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **single_threaded, "PYTHONPATH": search_path},
        )
        theirs.close()
        self._control = Channel(ours)
        try:
            problem = self._receive(time.monotonic() + start_timeout_s)["problem"]
        except ForkServerDied:
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

    def kill(self, child: ForkedChild) -> int:
        """Kills a child with its process group and returns how it ended: its exit code, or minus the signal.

        A child that had ended by itself keeps its own code. Raises `ForkServerDied`.
        """
        child.channel.close()
        return self._ask({"do": "kill", "pid": child.pid})["exit_code"]

    def close(self) -> None:
        """Ends the process and every child of it."""
        self._control.close()
        try:
            self._process.wait(CONTROL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(CONTROL_TIMEOUT_S)

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
                pid = _fork(control, received[1][0], verifiers, arguments["memory_bytes"])
                children.add(pid)
                reply = {"pid": pid}
            else:
                children.remove(request["pid"])
                reply = {"exit_code": _kill(request["pid"])}
            control.send(json.dumps(reply).encode(), deadline=None)
    except ConnectionError:
        pass  # the client died between a question and its answer
    finally:
        for pid in children:
            _kill(pid)


def _fork(control: Channel, descriptor: int, verifiers: dict, memory_bytes: int) -> int:
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            control.sock.close()  # only this copy: shutting the connection down would cut the server off
            os.setpgid(0, 0)
            confine(parent_pid, memory_bytes)
            serve(Channel(socket.socket(fileno=descriptor)), verifiers)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(code)  # never back into the server's loop
    os.close(descriptor)
    os.setpgid(pid, pid)  # here too: the client may want the group killed before the child has run
    return pid


def _kill(pid: int) -> int:
    # Not reaped yet, so the id still belongs to this child even if it has ended.
    os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
