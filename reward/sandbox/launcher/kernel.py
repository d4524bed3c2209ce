"""System calls that Python's `os` does not have."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

# The same on x86-64 and AArch64 from number 424 on.
_MOUNT_SETATTR = 442
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_SIGCHLD = 17

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
_AT_RECURSIVE = 0x8000

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def _prctl(option: int, value: int, what: str, *more: ctypes._SimpleCData | ctypes.Array) -> None:
    arguments = [*more, *[ctypes.c_ulong(0)] * (3 - len(more))]
    _checked(_libc.prctl(option, ctypes.c_ulong(value), *arguments), what)


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends. A parent that ended before is for the caller to notice."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, "PR_SET_PDEATHSIG")


def hide_memory(hidden: bool) -> None:
    """Whether processes of the same user are kept from tracing this one and from reading it under /proc."""
    _prctl(_PR_SET_DUMPABLE, 0 if hidden else 1, "PR_SET_DUMPABLE")


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def no_new_privileges() -> None:
    """From here on no program gains rights by being executed (setuid, setgid, file capabilities)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def filter_system_calls(instructions: bytes) -> None:
    """Installs a seccomp filter, for ever and for all children. Needs `no_new_privileges`."""
    program = _FilterProgram(len(instructions) // 8, instructions)
    address = ctypes.c_void_p(ctypes.addressof(program))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, "PR_SET_SECCOMP", address)


def fork_into(namespaces: int) -> int:
    """`os.fork`, with the child in new namespaces (a union of the NEW_ flags). Only where one thread runs."""
    zero = ctypes.c_ulong(0)
    return _checked(_libc.syscall(_CLONE, ctypes.c_ulong(namespaces | _SIGCHLD), zero, zero, zero, zero), "clone")


def drop_capabilities() -> None:
    """All of this process."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    arguments = [text.encode() if text else None for text in (source, target, kind)]
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()), f"mount {source} on {target}")


def unmount(target: str) -> None:
    """At once for those who look, and for good when its last user is gone."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    _checked(_libc.syscall(_PIVOT_ROOT, new.encode(), old.encode()), "pivot_root")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def restrict_mount(target: str, flags: int, recursive: bool) -> None:
    """Adds MS_RDONLY, MS_NOSUID, MS_NODEV to a mount, and where asked to those below it."""
    attributes = _MountAttributes(flags, 0, 0, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR,
        -1,
        target.encode(),
        _AT_RECURSIVE if recursive else 0,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _checked(result, f"mount_setattr {target}")


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def landlock_version() -> int:
    """Of the kernel's Landlock, 0 where it has none."""
    return max(0, _libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1))


def landlock_ruleset(files: int, network: int, scoped: int) -> int:
    """Descriptor of a ruleset that refuses these rights. A kernel that knows fewer fields takes zeros for the rest."""
    attributes = _Ruleset(files, network, scoped)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    return _checked(_libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), size, 0), "landlock ruleset")


def landlock_allow(ruleset: int, descriptor: int, rights: int) -> None:
    """Gives `rights` back below an open path."""
    rule = _PathRule(rights, descriptor)
    _checked(_libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0), "landlock rule")


def landlock_enforce(ruleset: int) -> None:
    """For ever and for all children. Needs `no_new_privileges`."""
    _checked(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
