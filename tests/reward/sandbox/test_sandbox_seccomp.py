"""The filter, interpreted: what the kernel would say to a call (seccomp(2), classic BPF)."""

import errno
import struct

import pytest

from reward.sandbox import SandboxUnavailable
from reward.sandbox.seccomp import filter_program

ALLOWED, KILLED, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
X86, ARM = 0xC000003E, 0xC00000B7


def verdict(program, number, *arguments, architecture=X86):
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += if_true if accumulator == value else if_false
        elif code == 0x35:
            at += if_true if accumulator >= value else if_false
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


# Numbers from the kernel's table for x86-64 (syscall_64.tbl).
@pytest.mark.parametrize(
    ("number", "arguments", "expected"),
    [
        (0, (), ALLOWED),  # read
        (59, (), ALLOWED),  # execve
        (47, (), ALLOWED),  # recvmsg, for inherited sockets
        (41, (2, 1, 0), EPERM),  # socket
        (101, (16, 1), EPERM),  # ptrace
        (272, (0x10000000,), EPERM),  # unshare
        (56, (0x01200011,), ALLOWED),  # clone, as fork does
        (56, (0x003D0F00,), ALLOWED),  # clone, as threads do
        (56, (0x10000011,), EPERM),  # clone into a user namespace
        (56, (0x00020011,), EPERM),  # clone into a mount namespace
        (435, (), ENOSYS),  # clone3
        (53, (1, 1, 0), ALLOWED),  # socketpair of streams
        (53, (1, 0x80001, 0), ALLOWED),  # ... that are closed on exec
        (53, (1, 2, 0), EPERM),  # ... of datagrams
        (53, (1, 0x80802, 0), EPERM),
        (302, (0, 7), ALLOWED),  # prlimit64 of itself
        (302, (1, 7), EPERM),
        (141, (0, 0, 5), ALLOWED),  # setpriority of itself
        (141, (0, 9, 5), EPERM),
        (0x40000000, (), KILLED),  # read, by the x32 table
        (90, (), ALLOWED),  # chmod
    ],
)
def test_calls_on_x86(number, arguments, expected):
    assert verdict(filter_program(same_user=False, machine="x86_64"), number, *arguments) == expected


def test_attributes_of_files_of_the_same_user():
    assert verdict(filter_program(same_user=True, machine="x86_64"), 90) == EPERM


def test_calls_on_arm():
    program = filter_program(same_user=False, machine="aarch64")
    assert verdict(program, 63, architecture=ARM) == ALLOWED  # read
    assert verdict(program, 198, architecture=ARM) == EPERM  # socket
    assert verdict(program, 220, 0x10000011, architecture=ARM) == EPERM  # clone into a user namespace


def test_calls_of_another_architecture():
    assert verdict(filter_program(same_user=False, machine="x86_64"), 0, architecture=0x40000003) == KILLED


def test_unknown_processor():
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        filter_program(same_user=False, machine="riscv64")
