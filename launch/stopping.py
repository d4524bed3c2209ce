"""What ends a run from outside: SIGTERM, or SIGINT (Ctrl-C)."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The longest time that telling of a signal is waited for.
TELL_S = 5.0


class _State:
    """What this process has heard.

    number   the signal that ends its work
    until    time.monotonic() until which the first signal lets the work go on
    patient  seconds that a first signal leaves; None where it ends the work at once
    alarm    write end of the pipe that wakes the thread that is told of it
    """

    number: int | None = None
    until: float | None = None
    patient: float | None = None
    alarm: int | None = None


_state = _State()


class RunStopped(KeyboardInterrupt):
    """A run was told to end, and has ended what it started. The message says how far it came.

    status  exit status of the process
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


@contextmanager
def heeding() -> Iterator[None]:
    """Within it the first of `SIGNALS` raises KeyboardInterrupt in the main thread, and later ones do nothing: what is
    left to do then takes a bounded time. In another thread nothing changes."""
    _state.number = _state.until = _state.patient = None
    with _kept():
        if _in_main_thread():
            for each in SIGNALS:
                signal.signal(each, _hear)
        yield


@contextmanager
def patient(grace_s: float, tell: Callable[[], None]) -> Iterator[None]:
    """Within it, inside `heeding`, the first signal is only kept in mind, for `told` to be asked at a good moment.

    After `grace_s`, or with a second signal, KeyboardInterrupt is raised after all. `tell` is called in another thread
    when the first comes. Where signals are not heeded, or the grace is 0, nothing changes.
    """
    if grace_s <= 0 or not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not _hear:
        yield
        return
    awaited, _state.alarm = os.pipe()
    # A handler may do little; the thread that waits for its byte may do anything.
    teller = threading.Thread(target=_tell, args=(awaited, tell), name="told-to-end", daemon=True)
    teller.start()
    before = signal.signal(signal.SIGALRM, _out_of_patience)
    _state.patient = grace_s
    try:
        yield
    finally:
        _state.patient = None
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        os.close(_state.alarm)
        _state.alarm = None
        # What is told comes before what is done about it.
        teller.join(TELL_S)


def told() -> bool:
    """Whether a signal has come that has not ended the work yet."""
    return _state.until is not None


def left_s() -> float | None:
    """Seconds that the signal left; None where none came."""
    return None if _state.until is None else max(0.0, _state.until - time.monotonic())


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
    return signal.SIGINT if _state.number is None else _state.number


def _hear(number: int, _frame: FrameType | None) -> None:
    if _state.number is None:
        _state.number = number
        if _state.patient is not None and _state.alarm is not None:
            _state.until = time.monotonic() + _state.patient
            signal.setitimer(signal.ITIMER_REAL, _state.patient)
            os.write(_state.alarm, b"!")
            return
        # Of all exceptions this is the one that Ray lets out of its waits.
        raise KeyboardInterrupt
    _out_of_patience(number, None)


def _out_of_patience(_number: int, _frame: FrameType | None) -> None:
    if _state.patient is None:
        return
    _state.patient = None
    _state.until = time.monotonic()
    raise KeyboardInterrupt


def _tell(awaited: int, tell: Callable[[], None]) -> None:
    with os.fdopen(awaited, "rb") as pipe:
        if pipe.read(1):
            tell()


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
