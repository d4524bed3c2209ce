"""Programs that reach for what is not theirs: files, secrets, sockets, processes.

What a level does not protect from is asserted too: it shows that the attack works where nothing stands in its way.
"""

import os
import secrets
import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from reward.sandbox import End, Isolation

REPOSITORY = Path(__file__).parents[3]

TRY = """
import errno, os, sys
def attempt(action, *arguments):
    try: result = action(*arguments)
    except OSError as error: print(errno.errorcode[error.errno])
    else: print("done", result if isinstance(result, (int, bytes)) else "")
"""


def lines(outcome):
    assert (outcome.end, outcome.exit_code) == (End.EXITED, 0), outcome
    return outcome.stdout.decode().splitlines()


def is_open(attack):
    return attack.level is Isolation.LIMITS


@contextmanager
def planted(folder, mode):
    """A file with a secret in it, which is removed again."""
    path = folder / f".sandbox-test-{secrets.token_hex(4)}"
    path.write_text("secret")
    path.chmod(mode)
    try:
        yield path
    finally:
        path.unlink()


@pytest.mark.parametrize("folder", [Path.home(), REPOSITORY], ids=["home", "repository"])
def test_private_files(attack, folder):
    if is_open(attack) and os.geteuid() != 0:
        pytest.skip("limits alone do not hide files from a program of the same user")
    with planted(folder, 0o600) as path:
        assert lines(attack(TRY + "attempt(open, sys.argv[1])", path)) in (["EACCES"], ["ENOENT"])


def test_files_that_everybody_may_read(attack, outside):
    with planted(outside, 0o644) as path:
        (line,) = lines(attack(TRY + "attempt(lambda: open(sys.argv[1], 'rb').read())", path))
    assert line == "done b'secret'" if is_open(attack) else line in ("EACCES", "ENOENT")


def test_passwords(attack):
    assert lines(attack(TRY + "attempt(open, '/etc/shadow')")) in (["EACCES"], ["ENOENT"])


@pytest.mark.parametrize("folder", [Path("/tmp"), REPOSITORY], ids=["tmp", "repository"])
def test_listing_folders(attack, folder):
    """A folder on the way to the interpreter is there, and holds what leads to it alone."""
    code = TRY + "attempt(lambda: ' '.join(os.listdir(sys.argv[2])).encode())"
    with planted(folder, 0o644) as path:
        (line,) = lines(attack(code, path, folder))
    if is_open(attack):
        assert path.name in line
    else:
        assert line in ("EACCES", "ENOENT") or (line.startswith("done") and path.name not in line)


def test_environment(attack, monkeypatch):
    monkeypatch.setenv("SANDBOX_TEST_SECRET", "secret")
    found = lines(attack("import os; print(*sorted(os.environ), sep='\\n')"))
    assert {"HOME", "PATH", "TMPDIR"} <= set(found)
    allowed = {"HOME", "LANG", "MALLOC_ARENA_MAX", "PATH", "PWD", "TMPDIR", "USER"}
    assert all(name in allowed or name.startswith("PYTHON") or name.endswith("_NUM_THREADS") for name in found)


def test_environment_and_memory_of_the_processes_above(attack):
    code = TRY + "for pid in (os.getppid(), sys.argv[1]):\n  for name in ('environ', 'mem', 'maps', 'root'):\n"
    code += "    attempt(os.readlink if name == 'root' else open, f'/proc/{pid}/{name}')"
    found = lines(attack(code, os.getpid()))
    if is_open(attack) and os.geteuid() != 0:
        pytest.skip("limits alone do not hide processes from a program of the same user")
    assert set(found) <= {"EACCES", "EPERM", "ENOENT"}
    assert len(found) == 8


WRITES = """
folder, token = sys.argv[1:3]
for place in (folder, "/tmp", "/dev/shm", "/var/tmp", "/", os.path.expanduser("~root"), os.path.dirname(os.__file__)):
    attempt(open, f"{place}/sandbox-{token}", "w")
os.symlink(folder, "link")
attempt(open, f"link/sandbox-{token}", "w")
attempt(open, "../" * 10 + f"{folder}/sandbox-{token}", "w")
open("inside", "w")
attempt(os.rename, "inside", f"{folder}/sandbox-{token}")
attempt(os.link, f"{folder}/victim", "stolen")
attempt(os.mkdir, f"{folder}/sandbox-{token}-folder")
attempt(os.symlink, "x", f"{folder}/sandbox-{token}-link")
attempt(os.truncate, f"{folder}/victim", 0)
attempt(os.unlink, f"{folder}/victim")
"""


def test_writes_outside(attack, outside):
    (outside / "victim").write_text("kept")
    (outside / "victim").chmod(0o666)
    token = secrets.token_hex(4)
    found = lines(attack(TRY + WRITES, outside, token))
    places = [outside, Path("/tmp"), Path("/dev/shm"), Path("/var/tmp")]
    left = [path for place in places for path in place.glob(f"sandbox-{token}*")]
    for path in left:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if is_open(attack):
        assert left
        return
    assert left == []
    assert (outside / "victim").read_text() == "kept"
    assert set(found) <= {"EACCES", "ENOENT", "EROFS", "EXDEV", "EPERM"}


ATTRIBUTES = """
path = sys.argv[1]
attempt(os.chmod, path, 0o777)
attempt(os.utime, path, (0, 0))
attempt(os.setxattr, path, b"user.x", b"x")
attempt(os.chown, path, os.getuid(), os.getgid())
"""


def test_attributes_of_files_outside(attack, outside):
    victim = outside / "victim"
    victim.write_text("kept")
    if is_open(attack) and os.geteuid() != 0:
        pytest.skip("limits alone do not protect the files of the same user")
    found = lines(attack(TRY + ATTRIBUTES, victim))
    assert set(found) <= {"EACCES", "ENOENT", "EPERM", "EROFS", "ENOTSUP"}
    assert stat.S_IMODE(victim.stat().st_mode) != 0o777
    assert victim.stat().st_mtime > 1


CONNECT = """
import socket
port, path, name = int(sys.argv[1]), sys.argv[2], "\\0" + sys.argv[3]
def connect(family, kind, address):
    with socket.socket(family, kind) as s: s.connect(address)
attempt(connect, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))
attempt(connect, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port))
attempt(connect, socket.AF_UNIX, socket.SOCK_STREAM, path)
attempt(connect, socket.AF_UNIX, socket.SOCK_STREAM, name)
def send(address):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", address)
attempt(send, path + "-datagrams")
attempt(send, name + "-datagrams")
"""


def test_sockets(attack, outside):
    name = secrets.token_hex(8)
    path = str(outside / "socket")
    listening = [
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        (socket.AF_UNIX, socket.SOCK_STREAM, path),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name),
        (socket.AF_UNIX, socket.SOCK_DGRAM, path + "-datagrams"),
        (socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + name + "-datagrams"),
    ]
    sockets = []
    for family, kind, address in listening:
        sockets.append(socket.socket(family, kind))
        sockets[-1].bind(address)
        if kind == socket.SOCK_STREAM:
            sockets[-1].listen()
    for file in outside.iterdir():
        file.chmod(0o777)
    try:
        found = lines(attack(TRY + CONNECT, sockets[0].getsockname()[1], path, name))
    finally:
        for one in sockets:
            one.close()
    assert len(found) == 6
    if is_open(attack):
        assert all(line.startswith("done") for line in found)
    else:
        assert found == ["EPERM"] * 6


def test_two_programs_that_talk(attack):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        question = f"import socket; s = socket.socket(fileno={ours.fileno()}); s.sendall(b'6 7'); print(s.recv(9))"
        answer = f"import socket; s = socket.socket(fileno={theirs.fileno()}); a, b = s.recv(9).split()\n"
        answer += "s.sendall(str(int(a) * int(b)).encode()); print(s.recv(9))"
        with (
            attack.start(question, pass_fds=(ours.fileno(),)) as first,
            attack.start(answer, pass_fds=(theirs.fileno(),)) as second,
        ):
            ours.close()
            theirs.close()
            assert first.wait().stdout == b"b'42'\n"
            assert second.wait().stdout == b"b''\n"  # sees the other's end


def test_signals(attack):
    code = TRY + "import signal\nfor pid in (os.getppid(), int(sys.argv[1])):\n"
    code += "    for number in (0, signal.SIGUSR1, signal.SIGKILL): attempt(os.kill, pid, number)"
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        if is_open(attack) and os.geteuid() != 0:
            pytest.skip("limits alone do not keep signals from processes of the same user")
        found = lines(attack(code, os.getpid()))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == []
    if attack.level is Isolation.NAMESPACED:
        # Its parent is process 1 of its own world, which the kernel keeps from such signals; ours it cannot name.
        assert found[3:] == ["ESRCH"] * 3
    else:
        assert found == ["EPERM"] * 6


def test_signal_to_everybody(attack):
    if is_open(attack) and os.geteuid() != 0:
        pytest.skip("limits alone do not keep signals from processes of the same user")
    with attack.start("import time; print('up', flush=True); time.sleep(1.5); print('still here')") as bystander:
        outcome = attack("import os, signal; os.kill(-1, signal.SIGKILL)")
        assert outcome.end in (End.EXITED, End.SIGNALLED)
        assert bystander.wait().stdout == b"up\nstill here\n"


def test_tracing(attack):
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for pid in (os.getppid(), int(sys.argv[1])):
    libc.ptrace(16, pid, None, None)
    print(errno.errorcode[ctypes.get_errno()])
    local = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(local), 8)
    libc.process_vm_readv(pid, vector, 1, vector, 1, 0)
    print(errno.errorcode[ctypes.get_errno()])
"""
    if is_open(attack) and os.geteuid() != 0:
        pytest.skip("limits alone do not keep a program from processes of the same user")
    assert set(lines(attack(TRY + code, os.getpid()))) <= {"EPERM", "ESRCH"}


def test_limits_of_the_process_above(attack):
    code = TRY + "import resource\nattempt(resource.prlimit, os.getppid(), resource.RLIMIT_NOFILE, (3, 3))"
    if is_open(attack) and os.geteuid() != 0:
        pytest.skip("limits alone do not keep a program from processes of the same user")
    assert lines(attack(code)) == ["EPERM"]


SYSTEM_CALLS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    libc.syscall(*arguments)
    print(errno.errorcode.get(ctypes.get_errno(), "done"))
call(272, 0x10000000)  # unshare(CLONE_NEWUSER)
call(56, 0x10000011, 0, 0, 0, 0)  # clone(CLONE_NEWUSER)
call(435, 0, 0)  # clone3
call(165, b"none", b"/", b"tmpfs", 0, 0)  # mount
call(161, b".")  # chroot
call(425, 1, 0)  # io_uring_setup
call(319, b"x", 0)  # memfd_create
call(29, 0, 4096, 0o1600)  # shmget
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of the system calls of x86-64")
def test_system_calls_that_open_ways_out(attack):
    if is_open(attack):
        pytest.skip("limits alone refuse no system call; the call of clone would fork")
    assert lines(attack(TRY + SYSTEM_CALLS)) == ["EPERM", "EPERM", "ENOSYS", *["EPERM"] * 5]


def test_programs_with_the_rights_of_root(attack, outside):
    if os.geteuid() != 0:
        pytest.skip("only root can plant such a program")
    planted_program = outside / "rights"
    planted_program.write_bytes(Path("/usr/bin/id").read_bytes())
    planted_program.chmod(0o4755)
    code = TRY + "import subprocess\nattempt(lambda: subprocess.run([sys.argv[1], '-u'], capture_output=True).stdout)\n"
    code += "import ctypes; print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))"  # PR_GET_NO_NEW_PRIVS
    uid, no_new_privileges = lines(attack(code, planted_program))
    assert no_new_privileges == "1"
    if is_open(attack):
        assert uid.startswith("done b'")
        assert uid != "done b'0\\n'"
    else:
        assert uid in ("EACCES", "ENOENT")


def test_is_not_root_and_has_no_capabilities(attack):
    code = "import ctypes, os\ndata = (ctypes.c_uint32 * 6)(*[1] * 6)\n"
    code += "ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), data)\n"
    code += "print(os.getuid() * os.geteuid() != 0, *data)"
    assert lines(attack(code)) == ["True 0 0 0 0 0 0"]


def test_inherits_no_descriptor(attack):
    code = "import os\nfor d in range(3, 1000):\n    try: os.fstat(d); print(d)\n    except OSError: pass"
    with open(os.devnull) as null:
        os.set_inheritable(null.fileno(), True)
        assert lines(attack(code)) == []


def test_standard_input_cannot_be_changed(attack):
    code = TRY + "attempt(os.write, 0, b'x')\nattempt(os.ftruncate, 0, 1 << 20)"
    assert set(lines(attack(code))) <= {"EBADF", "EPERM", "EINVAL"}


def test_terminal(attack):
    assert lines(attack(TRY + "attempt(os.open, '/dev/tty', os.O_RDWR)"))[0] in ("ENXIO", "EACCES", "ENOENT", "EPERM")


def test_nothing_leaks_from_one_program_to_the_next(attack):
    write = "import os; open('left', 'w').write('x'); print(os.getcwd(), os.getuid())"
    read = "import os, sys; print(os.listdir('.'), os.path.exists(sys.argv[1] + '/left'), os.getuid())"
    first, uid = lines(attack(write))[0].split()
    left, found, other = lines(attack(read, first))[0].split()
    assert (left, found) == ("[]", "False")
    assert os.geteuid() != 0 or uid != other


def test_programs_side_by_side_do_not_see_each_other(attack):
    if is_open(attack) and os.geteuid() != 0:
        pytest.skip("limits alone do not keep programs of the same user apart")
    with attack.start(
        "import os, time; open('mine', 'w').write(os.getcwd()); time.sleep(1); print(os.getcwd())"
    ) as first:
        code = TRY + "import glob, time; time.sleep(0.4)\n"
        code += "print(len([f for f in glob.glob('/scratch/*') + glob.glob('/tmp/*/entrain-sandbox-*/*')]))"
        assert lines(attack(code)) == ["0"]
        assert first.wait().exit_code == 0


def test_packages_that_tests_need(attack):
    if not attack.sandbox.package_paths:
        pytest.skip("a program's user cannot read the packages of this environment")
    code = f"import sys; sys.path += {list(attack.sandbox.package_paths)!r}\n"
    code += "import numpy; print(int(numpy.arange(5).sum()))"
    assert lines(attack(code, memory_bytes=512 << 20)) == ["10"]


def test_standard_library(attack):
    code = "import json, decimal, sqlite3, hashlib, zoneinfo, asyncio, subprocess\n"
    code += (
        "async def f(): return 5\nprint(asyncio.run(f()), subprocess.run(['echo', 'x'], capture_output=True).stdout)"
    )
    assert lines(attack(code)) == ["5 b'x\\n'"]


def test_same_order_of_sets_each_time(attack):
    code = "print(list({'a', 'b', 'c', 'd', 'e', 'f'}), hash('x'))"
    assert attack(code).stdout == attack(code).stdout


def test_many_programs_at_a_time(attack):
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda i: attack(f"print({i} ** 2)", wall_s=60.0).stdout, range(8))
        assert list(found) == [b"%d\n" % i**2 for i in range(8)]
