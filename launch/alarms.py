"""Warnings of a run: what is said once when it begins to hold, and is in the metrics for as long as it does."""

from collections.abc import Iterable

from entropy.dynamics import Alarm, entropy_alarm
from launch.config import AlarmsConfig
from launch.wording import Row

KINDS = ("collapse", "surge")


class EntropyAlarms:
    """Watches the mean token entropy of the rollout batches of one run against that of the first.

    rows  metric rows that the run has already, oldest first
    """

    def __init__(self, config: AlarmsConfig, rows: Iterable[Row] = ()):
        self._config = config
        self._first: float | None = None
        self._holding: str | None = None
        for row in rows:
            self.watch(row)

    def watch(self, row: Row) -> tuple[dict[str, float], list[Alarm]]:
        """The metrics of the next row, 1 for an alarm that holds and 0 for one that does not, and those that begin to.

        A row without an entropy, such as that of the base model's evaluation, has none.
        """
        if (entropy := row.get("entropy/token_mean")) is None:
            return {}, []
        self._first = entropy if self._first is None else self._first
        found = entropy_alarm([self._first, entropy], self._config.entropy_collapse, self._config.entropy_surge)
        begun = [found] if found and found.kind != self._holding else []
        self._holding = found.kind if found else None
        return {f"alarms/entropy_{kind}": int(kind == self._holding) for kind in KINDS}, begun
