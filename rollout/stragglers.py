"""Which responses take so long that another engine should draw them too. Pure, with injected time."""

from collections import deque
from collections.abc import Iterable
from statistics import median

from rollout.types import Key


class Stragglers:
    """Tells them by the time that the latest `window` responses took, from being asked for to being there.

    factor  of their median; what takes longer is late. As long as fewer have ended, nothing is.
    """

    def __init__(self, factor: float, window: int):
        self._factor, self._window = factor, window
        self._took_s: deque[float] = deque(maxlen=window)
        self._begun: dict[Key, float] = {}

    def begun(self, keys: Iterable[Key], now: float) -> None:
        """Engines have been asked for them, for the first time or, because one was lost, once more."""
        self._begun |= dict.fromkeys(keys, now)

    def ended(self, key: Key, now: float) -> None:
        """The response is there, from whichever engine."""
        self._took_s.append(now - self._begun.pop(key))

    def late(self, now: float) -> list[Key]:
        """What has been drawn for longer than `factor` times the median, the oldest first."""
        if len(self._took_s) < self._window:
            return []
        limit_s = self._factor * median(self._took_s)
        return sorted((key for key, then in self._begun.items() if now - then > limit_s), key=self._begun.__getitem__)
