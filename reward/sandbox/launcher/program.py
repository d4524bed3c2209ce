"""The last steps inside the process that becomes the program. Each of them can only take rights away."""

import os
import resource
import signal
import sys
import types
from typing import NoReturn

from . import kernel
from .landlock import LEAST, LEAST_AS_SAME_USER, confine_files

_OPEN_FILES = 128
_KILLED_FIRST = b"1000"  # oom_score_adj: where the machine runs out of memory, the program goes before the run


def become_nobody(uid: int) -> None:
    """For ever: the user and the only group become `uid`, and all capabilities go. Needs to be root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def offer_to_memory_killer() -> None:
    """Needs the machine's /proc."""
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
        score.write(_KILLED_FIRST)


def write_files(folder: str, files: dict[str, bytes]) -> None:
    """Into a fresh folder that no program has touched."""
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(content)


def limit(request: dict, processes: int) -> None:
    """`processes` counts those its user has already where it shares the run's user."""
    seconds = int(-(-request["cpu_s"] // 1))
    wanted = {
        resource.RLIMIT_AS: (request["memory_bytes"],) * 2,
        resource.RLIMIT_CPU: (seconds, seconds + 1),  # a signal, and a second later the end
        resource.RLIMIT_NPROC: (processes,) * 2,
        resource.RLIMIT_FSIZE: (request["file_bytes"],) * 2,
        resource.RLIMIT_NOFILE: (_OPEN_FILES,) * 2,
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
        resource.RLIMIT_RTPRIO: (0, 0),
    }
    for name, values in wanted.items():
        _, most = resource.getrlimit(name)
        soft, hard = (value if most == resource.RLIM_INFINITY else min(value, most) for value in values)
        resource.setrlimit(name, (soft, hard))


def confine(request: dict, scratch: str, same_user: bool) -> None:
    """Landlock. Raises `OSError` where the kernel's is too old."""
    least = LEAST_AS_SAME_USER if same_user else LEAST
    version = kernel.landlock_version()
    if version < least:
        raise OSError(f"Landlock version {least} is needed, the kernel offers {version or 'none'}")
    confine_files(request["readable"], request["devices"], scratch)


def execute(request: dict, scratch: str) -> None:
    """Replaces this process. Raises `OSError` where the command cannot be started."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:  # reserved by the C library
                continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for descriptor in request["pass_fds"]:
        os.set_inheritable(descriptor, True)
    os.execvpe(request["argv"][0], request["argv"], _environment(request, scratch))


def run_loaded(request: dict, scratch: str, report: int) -> NoReturn:
    """Calls `main` of a module that this process has loaded, as if it were the main one of a fresh Python."""
    main = sys.modules[request["module"]].main
    sys.argv = request["argv"]
    os.environ.update(_environment(request, scratch))
    sys.modules["__main__"] = types.ModuleType("__main__")
    for name in [name for name in sys.modules if name.partition(".")[0] == __package__]:
        del sys.modules[name]
    sys.stdin = open(0, errors="surrogateescape", closefd=False)  # noqa: SIM115 -- as Python opens them in its UTF-8 mode
    sys.stdout = open(1, "w", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    depth, frame = 0, sys._getframe()
    while frame.f_back:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(sys.getrecursionlimit() + depth)  # as deep as in a fresh one
    os.close(report)
    code = 1
    try:
        main()
        code = 0
    except BaseException:  # noqa: BLE001 -- there is nobody above
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _environment(request: dict, scratch: str) -> dict[str, str]:
    return {**request["environment"], "HOME": scratch, "TMPDIR": scratch, "PWD": scratch}
