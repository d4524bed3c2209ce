"""Processes below this one, from /proc: what they use, and their end."""

import os
import signal
import time

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAUSE_S = 0.002


class Process:
    """One line of /proc: `started` tells it from a later process with the same id."""

    __slots__ = ("cpu_s", "ended", "parent", "pid", "resident_bytes", "started", "threads")

    def __init__(self, pid: int, stat: bytes):
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.ended = fields[0] in (b"Z", b"X")
        self.parent = int(fields[1])
        self.cpu_s = sum(map(int, fields[11:15])) / _TICKS
        self.threads = int(fields[17])
        self.started = fields[19]
        self.resident_bytes = int(fields[21]) * _PAGE_BYTES


def read(pid: int) -> Process | None:
    """None where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return Process(pid, stat.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def all_processes() -> list[Process]:
    found = (read(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process]


def descendants(pid: int) -> list[Process]:
    """Of a process, without itself."""
    children: dict[int, list[Process]] = {}
    for process in all_processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    ahead = [pid]
    while ahead:
        below = children.pop(ahead.pop(), [])
        found += below
        ahead += [process.pid for process in below]
    return found


def tasks_of_user(uid: int) -> int:
    """Processes and threads that count for this user's RLIMIT_NPROC."""
    count = 0
    for process in all_processes():
        try:
            count += process.threads if os.stat(f"/proc/{process.pid}").st_uid == uid else 0
        except FileNotFoundError:
            continue
    return count


def end_descendants(deadline: float) -> None:
    """Kills and reaps everything below this process, which must be the one that adopts orphans.

    Nothing is reaped before all of them have ended: a program that goes on forking and leaving uses up its own limit
    on processes with what it leaves behind. Raises `TimeoutError`.
    """
    while _has_children():
        if time.monotonic() > deadline:
            raise TimeoutError("processes of the program do not end")
        alive = [process for process in descendants(os.getpid()) if not process.ended]
        for process in alive:
            _kill(process)
        if alive:
            time.sleep(_PAUSE_S)
            continue
        _reap()


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _kill(process: Process) -> None:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The id may have gone to a stranger since it was listed; the handle cannot.
        found = read(process.pid)
        if found and found.started == process.started:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
