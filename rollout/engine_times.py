"""What engines did with their time: the share they had nothing to draw, and the tokens they drew in the rest."""

import time
from collections.abc import Callable, Sequence


class EngineTimes:
    """Adds up, between two rows, how long each engine was busy and how many tokens it drew.

    clock  returns seconds, never runs backwards
    """

    def __init__(self, engines: int, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._counted_from = clock()
        self._restart(engines)

    def spent(self, busy: Sequence[bool]) -> None:
        """Since the last call each engine was, or was not, `busy`: it had something to draw."""
        now = self._clock()
        for engine, had_work in enumerate(busy):
            self._busy_s[engine] += had_work * (now - self._counted_from)
        self._counted_from = now

    def drew(self, engine: int, tokens: int) -> None:
        """A response of `tokens` tokens has ended on `engine`."""
        self._tokens[engine] += tokens

    def row(self) -> dict[str, float]:
        """`speed/engines_idle_share` and each engine's `speed/engine_tokens_per_s.<engine>` since the last row.

        Tokens count when their response ends. No figure where no time has passed, and no speed of an engine that had
        nothing to draw. Starts anew; `spent` comes before.
        """
        elapsed_s = self._counted_from - self._row_from
        busy_s, tokens = self._busy_s, self._tokens
        self._restart(len(busy_s))
        if not elapsed_s:
            return {}
        speeds = {
            f"speed/engine_tokens_per_s.{engine}": drawn / seconds
            for engine, (drawn, seconds) in enumerate(zip(tokens, busy_s, strict=True))
            if seconds
        }
        return {"speed/engines_idle_share": 1 - sum(busy_s) / (elapsed_s * len(busy_s))} | speeds

    def _restart(self, engines: int) -> None:
        self._row_from = self._counted_from
        self._busy_s, self._tokens = [0.0] * engines, [0] * engines
