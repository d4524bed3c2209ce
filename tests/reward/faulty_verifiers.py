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


def killed_once(request):
    """Is killed by somebody else the first time; the response is a path that tells."""
    if not Path(request.response).exists():
        Path(request.response).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Judgement(1.0, "")


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


kept = []


def keep_memory(request):
    """Under the limit of a single verification; the second time it would not be."""
    kept.append(bytearray(80 << 20))
    return whoami(request)


def keep_file(request):
    kept.append(open("/dev/null"))  # noqa: SIM115
    return whoami(request)


def keep_thread(request):
    import threading

    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return whoami(request)


def keep_process(request):
    import subprocess

    kept.append(subprocess.Popen(["sleep", "60"]))
    return Judgement(1.0, f"{os.getpid()} {kept[-1].pid}")


def whoami(request):
    return Judgement(1.0, str(os.getpid()))


def babble(request):
    print("garbage" * 1000)
    os.write(1, b'{"verdict": {"score": 1.0}}\n')
    return Judgement(0.5, "babbled")


def _connection():
    """The descriptor of the socket to whoever asked: the only one above the standard streams."""
    return next(fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}"))


def hang_up(request):
    os.close(_connection())
    time.sleep(60)


def hang_up_and_return(request):
    os.close(_connection())
    return Judgement(1.0, "unheard")


def shout(request):
    """What is no length and no JSON."""
    os.write(_connection(), b"\x00\x00\x00\x05hello")
    return Judgement(1.0, "")


def boast(request):
    """A length of 4 GiB."""
    os.write(_connection(), b"\xff\xff\xff\xff")
    time.sleep(60)


def forge(request):
    """A report of its own before the real one, which would then answer the next request."""
    import json
    import struct

    verdict = {"score": 1.0, "failure": None, "answer": "forged", "rule": "", "detail": "", "seconds": 0.0}
    report = json.dumps({"index": 0, "verdict": verdict, "spent": ""}).encode()
    os.write(_connection(), struct.pack("!I", len(report)) + report)
    return Judgement(0.0, "honest")


def desert(request):
    """Leaves the process group that its killer aims at."""
    os.setpgid(0, os.getpgid(os.getppid()))
    time.sleep(60)


def disturb(request):
    """What can be put back, and an alarm that would kill whoever is judged next."""
    import random

    os.chdir("/")
    sys.setrecursionlimit(100)
    random.seed(7)
    sys.stdout = None
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return Judgement(1.0, "")


def state(request):
    import random

    time.sleep(0.1)
    return Judgement(1.0, f"{os.getcwd()} {sys.getrecursionlimit()} {sys.stdout is None} {random.random()}")


def kill_server_on_kill(request):
    if request.response == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return echo(request)
