"""Verifiers that do what verifiers should not, and a few that help to look inside a child."""

import os
import re
import signal
import sys
import time
from pathlib import Path

from reward.types import BadReference, Judgement


def echo(request):
    """Right where the response equals gold; the response is the answer."""
    return Judgement(float(request.response == request.gold), request.response, "echo")


def hang(request):
    while True:
        pass


def hang_in_c(request):
    re.match(r"(a+)+$", "a" * 60 + "b")


def nap(request):
    time.sleep(float(request.response))
    return Judgement(1.0, request.response)


def leave(request):
    os._exit(3)


def leave_politely(request):
    sys.exit(0)


def segfault(request):
    os.kill(os.getpid(), signal.SIGSEGV)


def killed(request):
    os.kill(os.getpid(), signal.SIGKILL)


def hoard(request):
    hoarded = []
    while True:
        hoarded.append(bytearray(1 << 20))


def one_huge_block(request):
    return Judgement(1.0, str(len(bytearray(1 << 40))))


def modest_block(request):
    return Judgement(1.0, str(len(bytearray(112 << 20))))


def stumble(request):
    raise ZeroDivisionError("the verifier stumbled over it")


def no_gold(request):
    raise BadReference("gold is not what it should be")


def too_good(request):
    return Judgement(1.5, "")


def not_a_judgement(request):
    return 1.0


def processes(request):
    """The ids of this child, its fork server and that one's client."""
    with open(f"/proc/{os.getppid()}/stat") as stat:
        client = stat.read().rpartition(")")[2].split()[1]
    return Judgement(1.0, f"{os.getpid()} {os.getppid()} {client}")


def _kill_client(request):
    os.kill(int(processes(request).answer.split()[2]), signal.SIGKILL)
    time.sleep(60)


def kill_worker(request):
    _kill_client(request)


def kill_worker_once(request):
    """`gold` is the path of a file that remembers."""
    if not Path(request.gold).exists():
        Path(request.gold).touch()
        _kill_client(request)
    return Judgement(1.0, "second time")


def spawn_grandchild(request):
    import subprocess

    sleeper = subprocess.Popen(["sleep", "60"])
    Path(request.gold).write_text(str(sleeper.pid))
    sleeper.wait()
