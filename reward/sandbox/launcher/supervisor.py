"""Starts one program, watches its limits, ends all of it, and reports how it ended.

It outlives the program and never becomes it. In a namespaced program's world process 1 is a second copy of it, which
reaps orphans; when that one ends, the kernel ends everything else in there. Otherwise this process adopts orphans and
ends them itself. When its caller is gone, or gives the program up, the life line closes, and the program ends as at
its deadline.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import select
import signal
import time

from . import kernel, processes, program, scratch
from .view import build_view

TYPE_CHECKING = False  # `typing` is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

NAMESPACED, CONFINED = 3, 2  # of reward.sandbox.types.Isolation

_GRACE_S = 5.0  # for processes to be gone after SIGKILL
_LOOK_S = 0.02  # between looks at the output
_LOOKS_PER_SEARCH = 5  # looks between two searches through /proc and the scratch folder
_SCRATCH_INSIDE = "/scratch"
_NOBODY = 65534
_UNUSED_USERS = 0x70000000  # above what any system hands out
_CAP_SYS_ADMIN = 21


# Places among the descriptors that come with a request; those of `pass_fds` follow.
STANDARD, REQUEST, LIFE_LINE, ANSWER, PASSED = slice(0, 3), 3, 4, 5, 6


def supervise(received: list[int]) -> None:
    """Runs the program of a request, and writes two lines to `ANSWER`: the id of this process, then how the program
    ended, its exit code and seconds; or "broken" and a sentence about this machine."""
    os.write(received[ANSWER], f"{os.getpid()}\n".encode())
    os.setsid()
    with open(os.dup(received[REQUEST]), "rb") as file:
        request = marshal.load(file)
    life_line, answer = _place(received, request["pass_fds"])
    try:
        told = " ".join(map(str, Supervisor(request, life_line).run()))
    except Exception as error:  # noqa: BLE001 -- whatever goes wrong here must be told, as nobody else can see it
        told = f"broken {type(error).__name__}: {error}".replace("\n", " ")
    os.write(answer, told.encode()[: select.PIPE_BUF - 1] + b"\n")


def _place(received: list[int], wanted: list[int]) -> tuple[int, int]:
    """Gives descriptors the numbers that the program knows them by. Returns life line and answer, under others."""
    beyond = max([2, *wanted]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, beyond) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for number, descriptor in enumerate(moved[STANDARD]):
        os.dup2(descriptor, number)
    for number, descriptor in zip(wanted, moved[PASSED:], strict=True):
        os.dup2(descriptor, number, inheritable=False)
    for descriptor in [*moved[STANDARD], moved[REQUEST], *moved[PASSED:]]:
        os.close(descriptor)
    return moved[LIFE_LINE], moved[ANSWER]


class Supervisor:
    """One program from start to end."""

    def __init__(self, request: dict, life_line: int):
        self._request = request
        self._life_line = life_line
        self._namespaced = request["isolation"] == NAMESPACED
        self._uid = _unused_user() if os.geteuid() == 0 else None  # None: the program keeps our user
        self._reports, self._report = os.pipe()

    def run(self) -> tuple[str, int, float]:
        """How the program ended, its exit code or minus its signal, and the seconds it took. Raises `OSError`."""
        kernel.adopt_orphans()
        if self._uid is None and os.geteuid() == 0 and not self._namespaced:
            raise OSError("this root has no other user to give to a program")
        parent = self._request["temporary"]
        folder = _SCRATCH_INSIDE if self._namespaced else scratch.make(parent, self._uid)
        try:
            began = time.monotonic()
            child = self._start(folder)
            kernel.hide_memory(True)
            os.close(self._report)
            os.close(0)
            for descriptor in self._request["pass_fds"]:
                os.close(descriptor)  # the far end must see the program close its own
            reason, code, cpu_s = self._watch(child, folder, began)
            seconds = time.monotonic() - began
        finally:
            processes.end_descendants(time.monotonic() + _GRACE_S)
            if not self._namespaced:
                scratch.remove(folder)
        return reason or self._own_end(code, cpu_s), code, seconds

    def _start(self, folder: str) -> int:
        """Process id of the program, or of process 1 of its world."""
        namespaces = taken = 0
        if self._namespaced:
            taken = 1  # process 1
            namespaces = kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_NETWORK | kernel.NEW_IPC | kernel.NEW_UTS
            if self._uid is None or not _may_administer():
                namespaces |= kernel.NEW_USER
                if self._uid is not None:
                    program.become_nobody(self._uid)
                    kernel.hide_memory(False)  # a change of user hides it, and with it /proc/self/uid_map
                    self._uid = None
        elif self._uid is None:
            taken = processes.tasks_of_user(os.geteuid())
        user, group = os.geteuid(), os.getegid()
        supervisor = os.pidfd_open(os.getpid())

        def become_it() -> None:
            program.offer_to_memory_killer()
            if namespaces & kernel.NEW_USER:
                _keep_identity(user, group)
            if self._namespaced:
                self._be_first(folder, taken, supervisor)
            else:
                self._become_program(folder, taken, supervisor)

        child = kernel.fork_into(namespaces) if namespaces else os.fork()
        if child == 0:
            _never_return(become_it, self._report)
        os.close(supervisor)
        return child

    def _be_first(self, folder: str, taken: int, parent: int) -> None:
        """Process 1 of the program's world: builds the world, starts the program in it and waits for its end."""
        request = self._request
        build_view(request["readable"], request["devices"], folder, request["file_bytes"])
        if self._uid is not None:
            os.chown(folder, self._uid, self._uid)
            program.become_nobody(self._uid)
        else:
            kernel.drop_capabilities()
        _tie_to(parent)  # only now: a change of user would undo it
        kernel.hide_memory(True)
        first = os.pidfd_open(os.getpid())
        self._uid = None  # it is ours now
        child = os.fork()
        if child == 0:
            _never_return(lambda: self._become_program(folder, taken, first), self._report)
        _close_all_but([self._report])
        while True:
            pid, status = os.wait()
            if pid == child:
                os.write(self._report, f"ended {status}".encode())
                os._exit(0)

    def _become_program(self, folder: str, taken: int, parent: int) -> None:
        request = self._request
        os.setsid()
        os.chdir(folder)
        same_user = self._uid is None
        if self._uid is not None:
            program.become_nobody(self._uid)
        _tie_to(parent)
        kernel.hide_memory(False)
        _close_all_but([0, 1, 2, *request["pass_fds"], self._report])
        os.umask(0o077)
        program.write_files(folder, request["files"])
        program.limit(request, taken + request["processes"])
        kernel.no_new_privileges()
        if request["isolation"] == CONFINED:
            program.confine(request, folder, same_user)
        if request["isolation"] >= CONFINED:
            guarded = same_user and not self._namespaced
            kernel.filter_system_calls(request["filter_same_user" if guarded else "filter"])
        if request["module"]:
            program.run_loaded(request, folder, self._report)
        program.execute(request, folder)

    def _watch(self, child: int, folder: str, began: float) -> tuple[str, int, float]:
        """Until the child has ended: why it was killed ("" where it was not), its code, its processor time."""
        request = self._request
        handle = os.pidfd_open(child)
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        waiting.register(self._life_line, select.POLLIN)  # a closed one wakes us too
        deadline = began + request["wall_s"]
        reason = ""
        looks = 0
        while not reason:
            remaining = deadline - time.monotonic()
            ready = {descriptor for descriptor, _ in waiting.poll(max(0.0, min(remaining, _LOOK_S)) * 1000)}
            if handle in ready:
                break
            looks += 1
            if self._life_line in ready:
                reason = "killed"
            elif remaining <= 0:
                reason = "wall_time"
            elif self._wrote_too_much():
                reason = "output"
            elif looks % _LOOKS_PER_SEARCH == 0:
                reason = self._overuse(child, folder)
        if reason:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
        _, status, usage = os.wait4(child, 0)
        with open(self._reports, "rb") as reports:  # ends: no process that runs the program's code can write to it
            told = reports.read().decode(errors="replace")
        if told.startswith("broken "):
            raise OSError(told.removeprefix("broken "))
        if told.startswith("ended "):
            status = int(told.removeprefix("ended "))
        return reason, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime

    def _wrote_too_much(self) -> bool:
        return any(os.fstat(descriptor).st_size > self._request["output_bytes"] for descriptor in (1, 2))

    def _overuse(self, child: int, folder: str) -> str:
        """The limit that the processes of the program are over together, or ""."""
        request = self._request
        found = processes.descendants(os.getpid())
        held_bytes = sum(process.resident_bytes for process in found if not self._namespaced or process.pid != child)
        if held_bytes > request["memory_bytes"]:
            return "memory"
        if sum(process.cpu_s for process in found) > request["cpu_s"]:
            return "cpu_time"
        if not self._namespaced and scratch.is_too_large(folder, request["file_bytes"]):
            return "files"
        return ""

    def _own_end(self, code: int, cpu_s: float) -> str:
        if self._wrote_too_much():
            return "output"
        if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_s >= self._request["cpu_s"]):
            return "cpu_time"
        if code == -signal.SIGXFSZ:
            return "files"
        return "exited" if code >= 0 else "signalled"


def _never_return(steps: Callable[[], None], report: int) -> NoReturn:
    """The life of a forked copy: what goes wrong is told to the supervisor, and the copy never goes on as one."""
    try:
        steps()
    except BaseException as error:  # noqa: BLE001 -- there is nobody above to raise it to
        os.write(report, f"broken {type(error).__name__}: {error}".encode()[: select.PIPE_BUF])
    finally:
        os._exit(1)


def _tie_to(parent: int) -> None:
    """Ends with the process behind this handle, its parent."""
    kernel.die_with_parent()
    if select.select([parent], [], [], 0)[0]:  # it ended before the line above
        os._exit(1)


def _keep_identity(user: int, group: int) -> None:
    """In a new user namespace: the same numbers inside as outside, but nobody for root, so that no program that is
    executed gets its rights in there."""
    inside = (user or _NOBODY, group or _NOBODY)
    maps = {"uid_map": f"{inside[0]} {user} 1", "gid_map": f"{inside[1]} {group} 1"}
    for name, text in {"setgroups": "deny", **maps}.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _may_administer() -> bool:
    with open("/proc/self/status") as status:
        effective = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def _unused_user() -> int | None:
    """A user that no other program has at this time; "nobody" in a container with few users; None in one without."""
    with open("/proc/self/uid_map") as lines:
        users = [range(int(first), int(first) + int(count)) for first, _, count in map(str.split, lines)]
    for wanted in (_UNUSED_USERS + os.getpid(), _NOBODY):
        if any(wanted in several for several in users):
            return wanted
    return None


def _close_all_but(kept: list[int]) -> None:
    """Before the program's limits are set, as the number of open files is one of them."""
    first = 0
    for number in sorted(kept):
        if first < number:  # an empty range that ends at 0 would be taken for one without an end
            os.closerange(first, number)
        first = number + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
