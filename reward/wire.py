"""Messages over a stream socket: four bytes of length, then the payload. Every wait has a deadline.

Payloads are JSON made by the caller, never pickles: the far end ran code on text that a model wrote.
"""

import contextlib
import socket
import struct
import time

_LENGTH = struct.Struct("!I")
_CHUNK_BYTES = 1 << 16
MAX_BYTES = 256 << 20  # of a message; far beyond any response


class Closed(ConnectionError):
    """The far end is gone."""


class Overlong(ConnectionError):
    """The far end announced a message of more than `MAX_BYTES`, so what it wrote was none."""


class Channel:
    """One end of a socket pair.

    `deadline` is a time of `time.monotonic()`; None waits until a message or the end of the far process, which is
    for the side that has nothing to do without the other. Raises `TimeoutError`, `Closed` and `Overlong`.
    """

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self._buffer = bytearray()

    def send(self, payload: bytes, deadline: float | None) -> None:
        self._limit(deadline)
        try:
            self.sock.sendall(_LENGTH.pack(len(payload)) + payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(str(error)) from error

    def receive(self, deadline: float | None) -> bytes:
        self._fill(_LENGTH.size, deadline)
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_BYTES:
            raise Overlong(f"a message of {length} bytes was announced")
        end = _LENGTH.size + length
        self._fill(end, deadline)
        payload = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return payload

    def close(self) -> None:
        with contextlib.suppress(OSError):  # not connected any more
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes another thread that waits here
        self.sock.close()

    def _fill(self, size: int, deadline: float | None) -> None:
        while len(self._buffer) < size:
            self._limit(deadline)
            try:
                data = self.sock.recv(_CHUNK_BYTES)
            except ConnectionResetError as error:
                raise Closed(str(error)) from error
            if not data:
                raise Closed("the far end closed the connection")
            self._buffer += data

    def _limit(self, deadline: float | None) -> None:
        if deadline is None:
            self.sock.settimeout(None)
            return
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        self.sock.settimeout(remaining)
