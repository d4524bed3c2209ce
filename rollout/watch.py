"""Tells an engine that hangs from one that is slow."""

import time
from collections.abc import Callable, Iterable


class Watch:
    """Keeps in mind when each engine last got further. What is watched has `limit_s` from the construction on.

    clock  returns seconds, never runs backwards
    """

    def __init__(self, engines: Iterable[int], limit_s: float, clock: Callable[[], float] = time.monotonic):
        self._limit_s, self._clock = limit_s, clock
        self._further = dict.fromkeys(engines, clock())
        self._count: dict[int, int] = {}

    def heard(self, engine: int, count: int) -> None:
        """`engine` says how far it has come; the same figure as before is no progress."""
        if self._count.get(engine) != count:
            self._count[engine], self._further[engine] = count, self._clock()

    def silent(self, engine: int) -> bool:
        """Whether `engine` has not got further for `limit_s`."""
        return self._clock() - self._further[engine] > self._limit_s
