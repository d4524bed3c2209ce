"""Processes that try to outlive their program, and the death of those who started it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace

import pytest
from attack import LIMITS, carriers, gone

from reward.sandbox import End, SandboxBroken

DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(100)
    os._exit(0)
"""


def test_daemon_by_double_fork(attack):
    assert attack(DAEMON).end is End.EXITED


def test_daemon_of_a_program_that_is_killed(attack):
    assert attack(DAEMON + "time.sleep(100)", wall_s=1.0).end is End.WALL_TIME


def test_daemon_that_forks_and_leaves_for_ever(attack):
    """No look at the process table finds it twice under the same id."""
    code = "import os\nif os.fork() == 0:\n    os.setsid()\n    while True:\n        if os.fork(): os._exit(0)"
    assert attack(code).end is End.EXITED


def test_daemons_without_end(attack):
    code = """
import os, time
def breed():
    os.setsid()
    while True:
        try:
            if os.fork() == 0: breed()
        except OSError: pass
if os.fork() == 0: breed()
time.sleep(0.2)
"""
    assert attack(code).end is End.EXITED


def test_zombies(attack):
    assert attack("import os\nfor _ in range(8):\n    if os.fork() == 0: os._exit(0)").end is End.EXITED


def test_stopped_processes(attack):
    code = "import os, signal\nif os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)"
    assert attack(code).end is End.EXITED


def test_program_that_stops_itself(attack):
    assert attack("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", wall_s=1.0).end is End.WALL_TIME


def test_killed_by_its_caller(attack):
    with attack.start(DAEMON + "print('ready', flush=True); time.sleep(100)") as running:
        time.sleep(0.3)
        running.kill()
        running.kill()
        outcome = running.wait()
    assert (outcome.end, outcome.exit_code) == (End.KILLED, -signal.SIGKILL)
    assert running.wait() is outcome


def test_left_by_its_caller(attack):
    with attack.start("import time; time.sleep(100)"):
        time.sleep(0.3)
    assert carriers(attack.token) == []


CALLER = """
    import sys, time
    from reward.sandbox import Isolation, Program, Sandbox, SandboxConfig
    config = SandboxConfig("limits", False, 256, 16, 8, 64)
    sandbox = Sandbox(config, Isolation(int(sys.argv[1])))
    program = Program(sandbox.python_argv("-c", sys.argv[2], sys.argv[3]))
    with sandbox.start(program, config.limits(100.0)):
        print("started", flush=True)
        time.sleep(100)
"""


def test_caller_that_is_killed(attack):
    command = [sys.executable, "-c", textwrap.dedent(CALLER), str(int(attack.level)), DAEMON + "time.sleep(100)"]
    environment = {**os.environ, "TMPDIR": tempfile.gettempdir()}
    with subprocess.Popen([*command, attack.token], stdout=subprocess.PIPE, env=environment) as caller:
        assert caller.stdout.readline() == b"started\n"
        deadline = time.monotonic() + 20
        while len(carriers(attack.token)) < 3 and time.monotonic() < deadline:  # caller, program, daemon
            time.sleep(0.02)
        caller.kill()
    assert gone(attack.token, within_s=10)
    deadline = time.monotonic() + 10
    while os.listdir(tempfile.gettempdir()) and time.monotonic() < deadline:  # the launcher tidies up after the caller
        time.sleep(0.02)


def test_launcher_that_is_killed(attack):
    with attack.start("import time; time.sleep(100)") as running:
        while not carriers(attack.token):
            time.sleep(0.02)
        running._tell(1)
        os.kill(int(running._told), signal.SIGKILL)
        with pytest.raises(SandboxBroken, match="was killed"):
            running.wait()
    assert gone(attack.token, within_s=10)
    for folder in os.listdir(tempfile.gettempdir()):  # which nobody could remove any more
        shutil.rmtree(os.path.join(tempfile.gettempdir(), folder))


def test_command_that_does_not_exist(attack):
    program = replace(attack.program(""), argv=("/no/such/command",))
    with pytest.raises(SandboxBroken, match="No such file"):
        attack.sandbox.run(program, LIMITS)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", ""])
def test_files_outside_the_scratch_folder(attack, name):
    with pytest.raises(ValueError, match="scratch folder"):
        attack.sandbox.run(replace(attack.program(""), files={name: b""}), LIMITS)


def test_files_larger_than_the_scratch_folder(attack):
    with pytest.raises(ValueError, match="file_mb"):
        attack.sandbox.run(replace(attack.program(""), files={"a": b"x" * 1000}), replace(LIMITS, file_bytes=999))
