"""Attacks from where training runs programs: the children of a Ray worker."""

import secrets
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from attack import carriers, gone

from launch.config import compose
from reward.keeper import Keeper
from reward.pool import RewardPool
from reward.types import FailureKind, VerificationRequest

sys.path.insert(0, str(Path(__file__).parent))
MEMORY = {"memory_mb": 512, "recycle_after": 1000, "recycle_growth_mb": 64}
NAME = "sandboxed_verifiers:output"

FORKS = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
DAEMON = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(100)\nelse: print(5)"

# Seconds, program, what the answer begins with.
ATTACKS = {
    "ordinary": (20.0, "print(6 * 7)", "exited 0 42"),
    "endless loop": (0.5, "while True: pass", "wall_time -9"),
    "endless output": (20.0, "while True: print('x' * 1000)", "output "),  # killed, or its file was full before that
    "fork bomb": (1.0, FORKS, "wall_time -9"),
    "memory bomb": (20.0, "held = bytearray(1 << 40)", "exited 1"),
    "exit": (20.0, "import os; os._exit(0)", "exited 0"),
    "daemon": (20.0, DAEMON, "exited 0 5"),
    "everybody": (20.0, "import os; os.kill(-1, 9)", ""),
    "parent": (20.0, "import os, signal; os.kill(os.getppid(), 9); print('sent')", ""),
    "secrets": (20.0, "open('/proc/self/environ'); open('/etc/passwd')", "exited 1"),
    "socket": (20.0, "import socket; socket.socket()", "exited 1"),
    "outside": (20.0, "open('/tmp/x', 'w')", "exited 1"),
    "ordinary again": (20.0, "print(6 * 7)", "exited 0 42"),
}


def request(program, wall_s, token):
    return VerificationRequest(verifier=NAME, prompt="", response=program, gold=[wall_s, token], metadata={})


@pytest.fixture(scope="module")
def pool(ray_session):
    config = replace(compose([]).reward, workers=1, children_per_worker=2, timeout_s=40.0)
    with RewardPool(config, {NAME}) as pool:
        pool.wait_ready()
        yield pool


def test_attacks_in_a_ray_worker(pool):
    token = f"token-{secrets.token_hex(8)}"
    verdicts = pool.verify([request(program, wall_s, token) for wall_s, program, _ in ATTACKS.values()])
    for (name, (_, _, expected)), verdict in zip(ATTACKS.items(), verdicts, strict=True):
        assert verdict.failure is None, f"{name}: {verdict}"
        assert verdict.answer.startswith(expected), f"{name}: {verdict}"
    assert carriers(token) == []


def test_a_verifier_that_is_killed_takes_its_program_along():
    token = f"token-{secrets.token_hex(8)}"
    keeper = Keeper({NAME}, {}, children=1, timeout_s=3.0, start_timeout_s=60.0, **MEMORY)
    try:
        began = time.monotonic()
        (late,) = keeper.verify([request(DAEMON + "\ntime.sleep(100)", 100.0, token)], deadline_s=30.0)
        assert late.failure is FailureKind.TIMEOUT
        assert time.monotonic() - began < 20
        assert gone(token, within_s=10)
        (next_one,) = keeper.verify([request("print(1)", 2.5, token)], deadline_s=30.0)
        assert next_one.answer == "exited 0 1\n"
    finally:
        keeper.close()
