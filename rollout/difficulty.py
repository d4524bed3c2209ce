"""How hard each prompt has been for the policy so far."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """drawn  groups that were judged; pass_rate  mean over them of the share of right responses among the judged"""

    drawn: int
    pass_rate: float


class Difficulty:
    """A record per prompt, over the whole run; groups that are dropped count too."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def add(self, uid: str, right: int, judged: int) -> None:
        """A group of the prompt had `right` right ones among `judged` responses; without verdicts it says nothing."""
        if judged:
            before = self._records.get(uid, Record(0, 0.0))
            drawn = before.drawn + 1
            self._records[uid] = Record(drawn, before.pass_rate + (right / judged - before.pass_rate) / drawn)

    def of(self, uid: str) -> Record | None:
        """None for a prompt that has not been drawn."""
        return self._records.get(uid)

    def metrics(self) -> dict[str, float]:
        """`difficulty/prompts` that have a record, and among them the shares that were never and always right."""
        rates = [record.pass_rate for record in self._records.values()]
        if not rates:
            return {"difficulty/prompts": 0}
        return {
            "difficulty/prompts": len(rates),
            "difficulty/never_right_share": sum(rate == 0.0 for rate in rates) / len(rates),
            "difficulty/always_right_share": sum(rate == 1.0 for rate in rates) / len(rates),
        }

    def state_dict(self) -> dict[str, list[float]]:
        """JSON values."""
        return {uid: [record.drawn, record.pass_rate] for uid, record in self._records.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        self._records = {uid: Record(int(drawn), rate) for uid, (drawn, rate) in state.items()}
