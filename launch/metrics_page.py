"""`python -m launch.metrics_page`: write docs/metrics.md from the registry of metrics."""

from collections.abc import Iterator

from launch.config import CONF
from launch.metric_registry import Metric, registry

PATH = CONF.parent / "docs" / "metrics.md"
HEADER = """# Metrics

Every figure of `metrics.jsonl`, a line of JSON for each step; the trackers have them under the same names. Written by
`python -m launch.metrics_page` from `launch/assets/metrics.yaml`, and a test holds it against what the code writes.

A name means the same whatever the settings. A figure that has no meaning for a step (a gap between right and wrong
responses where none is wrong) is missing there, never 0. Sums and counts are taken over micro-batches and ranks and
divided once, so no figure depends on how a batch was laid out; "over" is the denominator. All but `time/`, `speed/`
and `memory/` repeats with the seed. Row 0 is the evaluation of the base model. A part in angle brackets stands for a
name of the run.
"""


def page() -> str:
    """The content of docs/metrics.md: a table for each part of the names before the first slash."""
    parts: dict[str, list[Metric]] = {}
    for metric in registry():
        parts.setdefault(metric.name.split("/")[0] if "/" in metric.name else "", []).append(metric)
    return "\n".join([HEADER, *(line for part, metrics in parts.items() for line in _table(part, metrics))])


def _table(part: str, metrics: list[Metric]) -> Iterator[str]:
    if part:
        yield f"## `{part}/`\n"
    yield "| metric | what | unit | over | computed in |"
    yield "|---|---|---|---|---|"
    for metric in metrics:
        cells = [f"`{metric.name}`", metric.definition, metric.unit, metric.over]
        yield f"| {' | '.join(cells)} | [{metric.writer}](../{metric.writer}) |"
    yield ""


def main() -> None:
    PATH.write_text(page(), encoding="utf-8")
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
