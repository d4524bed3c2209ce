"""Messages of JSON between a program and whoever asks it, over a stream socket; every wait can have a deadline."""

import json
import os
import select
import time

MAX_MESSAGE_BYTES = 64 << 20
CHUNK_BYTES = 1 << 16


class Gone(Exception):
    """The far end has closed the connection."""


class Late(Exception):
    """The deadline has passed."""


class TooMuch(Exception):
    """A message of more bytes than allowed, or something that is no message."""


class Pipe:
    """One end. `deadline` is a time of `time.monotonic()`, or None. Raises `Gone`, `Late` and `TooMuch`.

    Values take up to twenty times the memory of the message they come in.
    """

    def __init__(self, descriptor, max_bytes=MAX_MESSAGE_BYTES):
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._poll = select.poll()
        os.set_blocking(descriptor, False)

    def send(self, message, deadline):
        payload = json.dumps(message).encode()
        if len(payload) > self._max_bytes:
            raise TooMuch
        data = memoryview(len(payload).to_bytes(4, "big") + payload)
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise Gone from error

    def receive(self, deadline):
        length = int.from_bytes(self._read(4, deadline), "big")
        if length > self._max_bytes:
            raise TooMuch
        payload = self._read(length, deadline)
        try:
            return json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise TooMuch from error

    def _read(self, length, deadline):
        data = bytearray()
        while len(data) < length:
            try:
                part = os.read(self._descriptor, min(CHUNK_BYTES, length - len(data)))
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except ConnectionResetError as error:
                raise Gone from error
            if not part:
                raise Gone
            data += part
        return bytes(data)

    def _wait(self, event, deadline):
        self._poll.register(self._descriptor, event)
        if deadline is None:
            self._poll.poll()
            return
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not self._poll.poll(remaining * 1000):
            raise Late
