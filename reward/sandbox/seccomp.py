"""The system calls a program may not make, as a seccomp filter (classic BPF, seccomp(2)).

A refused call fails with EPERM and the program goes on. `clone3` fails with ENOSYS, since its flags lie in memory a
filter cannot read; the C library then uses `clone`, whose flags it can.
"""

import errno
import platform
import struct

from reward.sandbox.types import SandboxUnavailable

# Name: numbers on x86-64 and on AArch64 (from the kernel's tables); None where that machine lacks the call.
_Numbers = dict[str, tuple[int | None, int | None]]

_REFUSED: _Numbers = {
    # Other hosts and other programs. Descriptors inherited from the caller go on working.
    "socket": (41, 198),
    "connect": (42, 203),
    # Other processes: their memory and their descriptors.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Namespaces and mounts, with which a program could give itself rights again.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    # Memory and messages that belong to no process, which no limit would count.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # Parts of the kernel that ordinary programs do without, and that attacks on it go through.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, None),
    "personality": (135, 92),
}

# Argument at which position must be 0 ("myself"): they act on any process of the same user.
_OTHERS: dict[str, tuple[tuple[int | None, int | None], int]] = {
    "prlimit64": ((302, 261), 0),
    "sched_setaffinity": ((203, 122), 0),
    "sched_setscheduler": ((144, 119), 0),
    "sched_setparam": ((142, 118), 0),
    "sched_setattr": ((314, 274), 0),
    "setpriority": ((141, 140), 1),
    "ioprio_set": ((251, 30), 1),
}

# What Landlock leaves open on files of the program's own user.
_FILE_ATTRIBUTES: _Numbers = {
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}

_CLONE: tuple[int, int] = (56, 220)
_CLONE3 = 435
_SOCKETPAIR: tuple[int, int] = (53, 199)
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_SOCKET_TYPE = 0xF  # the other bits are SOCK_CLOEXEC and SOCK_NONBLOCK
_SOCK_DGRAM = 2

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH
_X32_BIT = 0x40000000

# Offsets in struct seccomp_data (both machines are little-endian: the low half of an argument comes first).
_NR, _ARCH, _ARGS = 0, 4, 16

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def _refuse(error: int) -> int:
    return 0x00050000 | error


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def filter_program(same_user: bool, machine: str = platform.machine()) -> bytes:
    """The filter as an array of `struct sock_filter`.

    `same_user`: the program runs as the user of the run, so the attributes of that user's files need guarding too.
    Raises `SandboxUnavailable` for processors whose system calls are not in the tables above.
    """
    if machine not in _MACHINES:
        raise SandboxUnavailable(f"no table of system calls for {machine!r} processors")
    column, architecture = _MACHINES[machine]
    program = [
        _instruction(_LOAD, _ARCH),
        _instruction(_IF_EQUAL, architecture, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NR),
    ]
    if machine == "x86_64":  # a second table of numbers for the same calls
        program += [_instruction(_IF_AT_LEAST, _X32_BIT, if_false=1), _instruction(_RETURN, _KILL)]
    program += [_instruction(_IF_EQUAL, _CLONE3, if_false=1), _instruction(_RETURN, _refuse(errno.ENOSYS))]
    for numbers in [*_REFUSED.values(), *(_FILE_ATTRIBUTES.values() if same_user else ())]:
        if (number := numbers[column]) is not None:
            program += [_instruction(_IF_EQUAL, number, if_false=1), _instruction(_RETURN, _refuse(errno.EPERM))]
    for numbers, position in _OTHERS.values():
        if (number := numbers[column]) is not None:
            program += _on_argument(number, position, [_instruction(_IF_EQUAL, 0, if_true=1)])
    no_flags = [_instruction(_AND, _NEW_NAMESPACES), _instruction(_IF_EQUAL, 0, if_true=1)]
    program += _on_argument(_CLONE[column], 0, no_flags)
    # Datagrams can be addressed to any UNIX socket, from a pair too.
    no_datagrams = [_instruction(_AND, _SOCKET_TYPE), _instruction(_IF_EQUAL, _SOCK_DGRAM, if_false=1)]
    program += _on_argument(_SOCKETPAIR[column], 1, no_datagrams)
    return b"".join([*program, _instruction(_RETURN, _ALLOW)])


def _on_argument(number: int, position: int, test: list[bytes]) -> list[bytes]:
    """Refuses call `number` where `test` of the low half of an argument falls through to its next instruction."""
    body = [
        _instruction(_LOAD, _ARGS + 8 * position),
        *test,
        _instruction(_RETURN, _refuse(errno.EPERM)),
        _instruction(_LOAD, _NR),
    ]
    return [_instruction(_IF_EQUAL, number, if_false=len(body)), *body]
