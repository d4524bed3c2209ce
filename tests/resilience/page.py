"""docs/drills.md: two tables between marks, each written by the command it names."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from benchmarks.step import machine

PAGE = Path(__file__).parents[2] / "docs" / "drills.md"


def write_part(name: str, command: str, table: Sequence[Sequence[str]], below: str = "") -> None:
    """Put `table`, its first row the heading, between the marks of part `name`."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, *body = table
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in body)]
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    where = machine()
    stamp = f"`{command}`, {day}, on {where['cpu']}, {where['memory']}, {where['platform']}."
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    part = "\n".join([begin, "", stamp, "", *lines, "", *([below, ""] if below else []), end])
    PAGE.write_text(before + part + after, encoding="utf-8")
