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
        self._copies: dict[Key, int] = {}
        self._hedges, self._won = 0, 0

    def begun(self, keys: Iterable[Key], now: float) -> None:
        """Engines have been asked for them, for the first time or, because one was lost, once more."""
        self._begun |= dict.fromkeys(keys, now)

    def hedged(self, keys: Iterable[Key], engine: int) -> None:
        """`engine` draws them too."""
        copies = dict.fromkeys(keys, engine)
        self._copies |= copies
        self._hedges += len(copies)

    def ended(self, key: Key, engine: int, now: float) -> None:
        """The response is there, first from `engine`."""
        self._took_s.append(now - self._begun.pop(key))
        self._won += self._copies.pop(key, None) == engine

    def late(self, now: float) -> list[Key]:
        """What has been drawn for longer than `factor` times the median, the oldest first."""
        if len(self._took_s) < self._window:
            return []
        limit_s = self._factor * median(self._took_s)
        return sorted((key for key, then in self._begun.items() if now - then > limit_s), key=self._begun.__getitem__)

    def row(self) -> dict[str, float]:
        """`speed/hedges`, what was drawn by a second engine, and `speed/hedges_won` by it first, since the last row."""
        row: dict[str, float] = {"speed/hedges": self._hedges, "speed/hedges_won": self._won}
        self._hedges, self._won = 0, 0
        return row
