"""Programs that want more than they may have. One attack a test, at every level."""

import resource
import signal
import time

import pytest

from reward.sandbox import End, Isolation

MIB = 1 << 20


def test_an_ordinary_program(attack):
    with attack.start("import sys; print(sys.stdin.read()[::-1]); sys.exit(3)", stdin=b"abc") as running:
        outcome = running.wait()
    assert (outcome.end, outcome.exit_code, outcome.stdout, outcome.stderr) == (End.EXITED, 3, b"cba\n", b"")
    assert not outcome.truncated
    assert 0 < outcome.seconds < 20


def test_files_lie_in_the_working_directory(attack):
    code = "print(open('a/b.txt').read(), open('c.bin', 'rb').read())"
    with attack.start(code, files={"a/b.txt": b"text", "c.bin": b"\0"}) as running:
        assert running.wait().stdout == b"text b'\\x00'\n"


def test_endless_loop(attack):
    outcome = attack("while True: pass", wall_s=0.5)
    assert (outcome.end, outcome.exit_code) == (End.WALL_TIME, -signal.SIGKILL)
    assert 0.5 <= outcome.seconds < 5


def test_sleeps_and_ignores_every_signal(attack):
    code = """
import signal, time
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    try: signal.signal(number, signal.SIG_IGN)
    except OSError: pass
print("ready", flush=True)
time.sleep(100)
"""
    outcome = attack(code, wall_s=1.5)
    assert (outcome.end, outcome.stdout) == (End.WALL_TIME, b"ready\n")


@pytest.mark.parametrize("ignored", ["", "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"])
def test_processor_time(attack, ignored):
    assert attack(ignored + "while True: pass", cpu_s=1.0).end is End.CPU_TIME


def test_processor_time_of_all_processes_together(attack):
    code = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    assert attack(code, cpu_s=0.5).end is End.CPU_TIME


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_output(attack, stream):
    outcome = attack(f"import sys\nwhile True: sys.{stream}.write('x' * 4096)", output_bytes=10_000)
    assert outcome.end is End.OUTPUT
    assert outcome.truncated
    assert getattr(outcome, stream) == b"x" * 10_000


def test_too_much_output_and_a_quick_exit(attack):
    outcome = attack("print('x' * 20_000)", output_bytes=10_000)
    assert (outcome.end, outcome.truncated) == (End.OUTPUT, True)
    assert outcome.exit_code in (0, -signal.SIGKILL)  # whichever came first


def test_output_of_exactly_the_limit(attack):
    outcome = attack("print('x' * 9_999)", output_bytes=10_000)
    assert (outcome.end, outcome.truncated, len(outcome.stdout)) == (End.EXITED, False, 10_000)


def test_closed_outputs(attack):
    assert attack("import os; os.close(1); os.close(2); os._exit(5)").exit_code == 5


COUNT_FORKS = """
import os, signal, time
count = 0
try:
    while count < 100:
        if os.fork() == 0: time.sleep(100)
        count += 1
except BlockingIOError: pass
print(count)
"""


def test_number_of_processes(attack):
    outcome = attack(COUNT_FORKS, processes=12)
    assert outcome.end is End.EXITED
    assert int(outcome.stdout) == 11  # and the program itself


def test_number_of_threads(attack):
    code = """
import threading, time
count = 0
try:
    while count < 100:
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        count += 1
except RuntimeError: pass
print(count, flush=True)
import os; os._exit(0)
"""
    assert int(attack(code, processes=12, memory_bytes=1 << 30).stdout) == 11


def test_fork_bomb(attack):
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert attack(code, wall_s=1.0).end is End.WALL_TIME


def test_memory_bomb(attack):
    outcome = attack("held = []\nwhile True: held.append(bytearray(10_000_000))")
    assert (outcome.end, outcome.exit_code) == (End.EXITED, 1)
    assert b"MemoryError" in outcome.stderr


def test_memory_of_all_processes_together(attack):
    code = "import os, time\nfor _ in range(3): os.fork()\nheld = bytearray(b'x') * (100 << 20)\ntime.sleep(100)"
    assert attack(code, memory_bytes=256 * MIB).end is End.MEMORY


def test_shared_memory_counts(attack):
    code = "import mmap\ntry: mmap.mmap(-1, 1 << 30)\nexcept OSError as error: print(error.errno)"
    assert attack(code).stdout == b"12\n"


def test_huge_file(attack):
    code = """
try:
    with open("huge", "wb", buffering=0) as file:
        while True: file.write(b"x" * 1_000_000)
except OSError as error: print(error.errno)
"""
    assert attack(code).stdout in (b"27\n", b"28\n")  # EFBIG, or ENOSPC of the scratch folder


def test_huge_file_written_without_asking_for_errors(attack):
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nopen('huge', 'wb').truncate(1 << 30)"
    assert attack(code).end is End.FILES


FILL = """
import itertools, time
try:
    for i in itertools.count():
        with open(f"file{i}", "wb") as file: file.write(b"x" * SIZE)
except OSError as error: print(error.errno, flush=True)
"""


@pytest.mark.parametrize("size", [500_000, 0], ids=["large", "empty"])
def test_scratch_folder_filled_with_files(attack, size):
    outcome = attack(FILL.replace("SIZE", str(size)), cpu_s=60.0, wall_s=60.0)
    if attack.level is Isolation.NAMESPACED:
        assert (outcome.end, outcome.stdout) == (End.EXITED, b"28\n")
    else:
        assert outcome.end is End.FILES


def test_folders_nested_beyond_the_length_of_paths(attack):
    code = "import os\nfor _ in range(2000): os.mkdir('a' * 50); os.chdir('a' * 50)\nprint('done')"
    assert attack(code).end in (End.EXITED, End.FILES)


def test_folders_closed_to_everybody(attack):
    code = "import os\nos.makedirs('a/b/c'); open('a/b/c/d', 'w'); os.umask(0o777)\nos.makedirs('e'); open('f', 'w')"
    assert attack(code).end is End.EXITED


def test_open_files(attack):
    code = (
        "held = []\ntry:\n    while True: held.append(open('/dev/null'))\nexcept OSError as error: print(error.errno)"
    )
    assert attack(code).stdout == b"24\n"


@pytest.mark.parametrize("call", ["os.abort()", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)"])
def test_ends_by_a_signal_without_a_core_file(attack, call):
    outcome = attack(f"import os, ctypes, resource; {call}")
    assert outcome.end is End.SIGNALLED
    assert outcome.exit_code in (-signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV)


def test_stays_within_the_limits_of_whoever_calls(attack):
    """Raising them is what only root may do, and the program is not root."""
    code = """
import resource
for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE"):
    kind = getattr(resource, name)
    try: resource.setrlimit(kind, (resource.RLIM_INFINITY,) * 2); print(name)
    except (OSError, ValueError): pass
"""
    assert attack(code).stdout == b""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # ours


def test_nothing_waits_for_what_a_program_leaves_running(attack):
    began = time.monotonic()
    outcome = attack("import os, time\nif os.fork() == 0: time.sleep(100)\nprint('parent')")
    assert (outcome.end, outcome.stdout) == (End.EXITED, b"parent\n")
    assert time.monotonic() - began < 15
