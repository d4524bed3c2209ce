"""What ends a run from outside: SIGTERM, or SIGINT (Ctrl-C)."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_heard: list[int] = []


class RunStopped(KeyboardInterrupt):
    """A run was told to end, and has ended what it started. The message says how far it came."""


@contextmanager
def heeding() -> Iterator[None]:
    """Within it the first of `SIGNALS` raises KeyboardInterrupt in the main thread, and later ones do nothing: what is
    left to do then takes a bounded time. In another thread nothing changes."""
    _heard.clear()
    with _kept():
        if _in_main_thread():
            for each in SIGNALS:
                signal.signal(each, _hear)
        yield


@contextmanager
def kept_from_ray() -> Iterator[None]:
    """Around `ray.init` and `ray.shutdown`: afterwards signals do what they did before.

    Ray sets a handler of its own, under which SIGTERM aborts the process in the middle of a wait.
    """
    listens = signal.getsignal(signal.SIGTERM) is _hear
    with _kept():
        try:
            yield
        except SystemExit as error:
            if listens and error.code == signal.SIGTERM:
                _hear(signal.SIGTERM, None)
            raise


def sentence() -> str:
    """Which signal ended the work of this process; a KeyboardInterrupt without one is Ctrl-C's."""
    return f"stopped by {signal.Signals(_number()).name}"


def exit_status() -> int:
    """128 + n for the signal n that ended the work of this process, as a shell has it."""
    return 128 + _number()


def _number() -> int:
    return _heard[0] if _heard else signal.SIGINT


def _hear(number: int, _frame: FrameType | None) -> None:
    if not _heard:
        _heard.append(number)
        # Of all exceptions this is the one that Ray lets out of its waits.
        raise KeyboardInterrupt


@contextmanager
def _kept() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    try:
        yield
    finally:
        if _in_main_thread():
            for each, handler in before.items():
                signal.signal(each, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
