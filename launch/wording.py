"""Figures of a run in words: shared by the display and the report."""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence

from launch.phases import PHASES

Row = Mapping[str, float]
BLOCKS = "▁▂▃▄▅▆▇█"
OUTCOMES = ("correct", "wrong", "unparsable", "failed")


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Every name that stands in a row, in the order of their first appearance."""
    return list(dict.fromkeys(itertools.chain.from_iterable(rows)))


def verdict_words(counts: Row) -> str:
    """All four counts, zeros too: "correct 120, wrong 100, unparsable 30, failed 6 (timeout 5, crash 1)"."""
    words = ", ".join(f"{outcome} {int(counts.get(f'reward/{outcome}', 0))}" for outcome in OUTCOMES)
    kinds = {
        name.removeprefix("reward/failed."): int(count)
        for name, count in counts.items()
        if name.startswith("reward/failed.")
    }
    named = ", ".join(
        f"{kind.replace('_', ' ')} {count}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]) if count
    )
    return f"{words} ({named})" if named else words


def verdict_totals(rows: Iterable[Row]) -> dict[str, float]:
    """The verdict counts of all steps, added up by name."""
    rows = list(rows)
    counts = [name for name in metric_names(rows) if name.removeprefix("reward/").split(".")[0] in OUTCOMES]
    return {name: sum(row[name] for row in rows if name in row) for name in counts}


def time_share_words(row: Row) -> str:
    """Phases of at least 1 % of the step, longest first: "6.4 s: generate 52%, update 30%"."""
    step_s = row["time/step_s"]
    spent = {phase: row.get(f"time/{phase}_s", 0.0) / step_s if step_s else 0.0 for phase in (*PHASES, "other")}
    shares = sorted(spent.items(), key=lambda item: -item[1])
    words = ", ".join(f"{phase.replace('_', ' ')} {share:.0%}" for phase, share in shares if share >= 0.01)
    return f"{duration(step_s)}: {words}" if words else duration(step_s)


def change(base: float | None, final: float | None, digits: int = 3, arrow: str = "→") -> str:
    """From base to final: "0.310 → 0.522"; a side that is None is "not measured"."""
    sides = ("not measured" if value is None else f"{value:.{digits}f}" for value in (base, final))
    return f" {arrow} ".join(sides)


def duration(seconds: float) -> str:
    """0.0042 → "4.2 ms", 6.41 → "6.4 s", 252 → "4 min 12 s", 7500 → "2 h 05 min"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def stopwatch(seconds: float) -> str:
    """Like `duration`, in whole seconds, for what is shown while it runs."""
    return f"{int(seconds)} s" if seconds < 99.95 else duration(seconds)


def counted(count: int, noun: str) -> str:
    """1 → "1 step", 3 → "3 steps"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size(count: float) -> str:
    """Bytes in binary units: 12_348_030_976 → "11.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def share(value: float) -> str:
    """0.031 → "3.1%", 0.42 → "42%"; a share that is not zero never reads as zero."""
    if 0 < value < 0.001:
        return "<0.1%"
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The whole series in at most `width` block characters, lowest value to highest; neighbours are averaged to fit."""
    if not values:
        return ""
    if len(values) > width:
        bounds = [round(index * len(values) / width) for index in range(width + 1)]
        values = [statistics.fmean(values[start:end]) for start, end in itertools.pairwise(bounds)]
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in values)
