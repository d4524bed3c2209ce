"""Every metric that `metrics.jsonl` can hold: what it is, its unit and what it is over."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import yaml

from launch.config import ASSETS

FILE = ASSETS / "metrics.yaml"
PLACE = re.compile(r"<\w+>")


@dataclass(frozen=True)
class Metric:
    """One entry of assets/metrics.yaml.

    name    a part in <angle brackets> stands for a name of the run: of an evaluation set, a source, a verifier
    over    what it is a mean over, or counted over: its denominator
    writer  the file that computes it
    """

    name: str
    definition: str
    unit: str
    over: str
    writer: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the names that the entry is about."""
        return re.compile(".+".join(re.escape(part) for part in PLACE.split(self.name)))


@cache
def registry() -> tuple[Metric, ...]:
    """All entries, in the order of the file. Raises ValueError where an entry lacks a field."""
    found = []
    for writer, entries in yaml.safe_load(FILE.read_text(encoding="utf-8")).items():
        for name, text in entries.items():
            fields = [field.strip() for field in text.split(" | ")]
            if len(fields) != 3 or not all(fields):
                raise ValueError(f"{FILE.name}: {name} is not 'definition | unit | over': {text}")
            definition, unit, over = fields
            found.append(Metric(name, definition, unit, over, writer))
    return tuple(found)


def entry(name: str) -> Metric | None:
    """The entry of the metric called `name`: one of exactly that name, else the first whose pattern it fits."""
    by_name = {metric.name: metric for metric in registry()}
    return by_name.get(name) or next((metric for metric in registry() if metric.pattern.fullmatch(name)), None)


def unknown(names: Iterable[str]) -> list[str]:
    """Those that are in no entry, in their order."""
    return [name for name in dict.fromkeys(names) if entry(name) is None]
