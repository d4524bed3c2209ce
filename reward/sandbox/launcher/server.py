"""Starts Python once, and forks a supervisor from itself for every program.

Each request is one packet on a socket, with descriptors: of standard input, output and error, of the request, of the
life line and of the answer, then those of `pass_fds`. This process ends when nobody holds the far end any more.
Programs may be forked from it too, so it is given nothing that a program may not read.
"""

import gc
import importlib
import os
import socket
import sys

from .supervisor import ANSWER, supervise

_MOST_DESCRIPTORS = 200  # the kernel takes 253 in one packet


def main() -> None:
    """Arguments: the descriptor of the socket, a folder and the modules to load from there."""
    number, folder, *modules = sys.argv[1:]
    sys.path.append(folder)
    for module in modules:
        importlib.import_module(module)
    del sys.path[-2:]  # that folder, and ours: programs have the standard library
    gc.collect()
    gc.freeze()  # collections in the copies then leave the shared pages alone
    with socket.socket(fileno=int(number)) as control:
        control.set_inheritable(False)
        while True:
            message, received, _, _ = socket.recv_fds(control, 1, _MOST_DESCRIPTORS)
            if not message:
                return
            _reap()
            try:
                _fork(control, received)
            finally:
                for descriptor in received:
                    os.close(descriptor)


def _fork(control: socket.socket, received: list[int]) -> None:
    try:
        pid = os.fork()
    except OSError as error:  # too many processes at the moment
        os.write(received[ANSWER], f"0\nbroken {error}\n".encode())
        return
    if pid == 0:
        try:
            control.close()
            supervise(received)
        finally:
            os._exit(0)  # never back into the loop above


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
