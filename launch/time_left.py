"""Whether one more step fits into the time that a run has."""

import time
from collections.abc import Callable

import psutil


def process_start() -> float:
    """What time.monotonic() said when this process started."""
    return time.monotonic() - (time.time() - psutil.Process().create_time())


class TimeLeft:
    """Counts from its construction.

    limit_s  seconds the process may run and save; None for ever
    began    what `clock` said when it started
    """

    def __init__(self, limit_s: float | None, began: float, clock: Callable[[], float] = time.monotonic):
        self._end = None if limit_s is None else began + limit_s
        self._clock, self._last = clock, clock()
        self._longest_s = 0.0

    def too_short(self, saving_s: float) -> bool:
        """Asked once after every step: whether another as long as the longest, and `saving_s`, would end too late."""
        now = self._clock()
        self._longest_s, self._last = max(self._longest_s, now - self._last), now
        return self._end is not None and now + self._longest_s + saving_s > self._end
