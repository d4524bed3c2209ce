"""How hard each prompt has been for the policy so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """drawn  groups that were judged; pass_rate  mean over them of the share of right responses among the judged"""

    drawn: int
    pass_rate: float


class Difficulty:
    """A record per prompt, over the whole run; groups that are dropped count too.

    What is told of a prompt is its record as it was when `settle` was called last, so that it does not depend on which
    verdicts happen to be there already.
    """

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        # Of prompts whose record has changed since: as it was, None where there was none.
        self._before: dict[str, Record | None] = {}

    def add(self, uid: str, right: int, judged: int) -> None:
        """A group of the prompt had `right` right ones among `judged` responses; without verdicts it says nothing."""
        if judged:
            self._before.setdefault(uid, self._records.get(uid))
            before = self._records.get(uid, Record(0, 0.0))
            drawn = before.drawn + 1
            self._records[uid] = Record(drawn, before.pass_rate + (right / judged - before.pass_rate) / drawn)

    def settle(self) -> None:
        """From now on tell what has been added so far."""
        self._before.clear()

    def of(self, uid: str) -> Record | None:
        """None for a prompt that had not been drawn."""
        return self._before[uid] if uid in self._before else self._records.get(uid)

    def rates(self) -> list[float]:
        """The mean pass rates of all prompts that have a record."""
        return [record.pass_rate for uid in self._records if (record := self.of(uid))]

    def metrics(self) -> dict[str, float]:
        """`difficulty/prompts` that have a record, and among them the shares that were never and always right."""
        rates = self.rates()
        if not rates:
            return {"difficulty/prompts": 0}
        return {
            "difficulty/prompts": len(rates),
            "difficulty/never_right_share": sum(rate == 0.0 for rate in rates) / len(rates),
            "difficulty/always_right_share": sum(rate == 1.0 for rate in rates) / len(rates),
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "records": {uid: _plain(record) for uid, record in self._records.items()},
            "before": {uid: record and _plain(record) for uid, record in self._before.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Tell and add as where `state` was taken."""
        self._records = {uid: Record(*record) for uid, record in state["records"].items()}
        self._before = {uid: record and Record(*record) for uid, record in state["before"].items()}


def _plain(record: Record) -> list[float]:
    return [record.drawn, record.pass_rate]
