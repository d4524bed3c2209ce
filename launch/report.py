"""The report of a run: one HTML file that needs nothing else. `python -m launch.report RUN` writes it again.

With --serve it is served on this machine alone, and follows a run that trains.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import yaml

from entropy.law import EXPONENTIAL, Fit, Forecast
from launch import page
from launch.course import correlations, early
from launch.defaults import flat_defaults
from launch.entropy_story import story
from launch.law_curves import Curve, Line, lines, points
from launch.phases import PHASES
from launch.run_folder import (
    CONFIG,
    REPORT,
    SUMMARY,
    RunFolderError,
    config_hash,
    evaluations,
    read_alarms,
    read_metrics,
)
from launch.trackers import flat
from launch.wording import Row, change, counted, duration, share, verdict_totals, verdict_words

# Correlations that stand outside the fold.
STRONGEST = 12
# Of where a run is and what it is called: no setting that sets it apart.
NOT_SETTINGS = ("output.folder", "name", "resume", "resume_force")


def write_report(folder: str | os.PathLike) -> Path:
    """Write `report.html` into the folder of a run, finished or not, and return its path.

    Reads metrics, alarms, summary, config and the last rollouts; whatever is missing is said in its place. Raises
    `RunFolderError` where there is no `metrics.jsonl`.
    """
    folder = Path(folder)
    page.write(folder / REPORT, render(folder))
    return folder / REPORT


def render(folder: Path) -> str:
    """The page of the run in `folder`, as `write_report` writes it."""
    # Here, because a training process imports this module at its start and draws only at its end.
    from launch.charts import charts
    from launch.report_drawings import calibration, law
    from launch.shown_responses import last_responses, section, tokenizer_of

    rows = read_metrics(folder)
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8")) if (folder / SUMMARY).is_file() else None
    written = (folder / CONFIG).read_text(encoding="utf-8") if (folder / CONFIG).is_file() else None
    config = yaml.safe_load(written) if written else None
    responses = last_responses(folder)
    curve = Curve(folder.name, "", *points(rows, "train"), None)
    fitted = lines(curve)
    shown = [*charts(rows), law(curve, fitted), calibration(responses)]
    curves = "".join(page.figure(chart.title, chart.svg) for chart in shown if chart.svg)
    undrawn = [chart.title for chart in shown if not chart.svg]
    failed = page.paragraphs([summary["error"]] if summary and summary["error"] else [], "failed")
    name = folder.resolve().name
    last = {metric: f"{value:.6g}" for metric, value in rows[-1].items()} if rows else {}
    provenance = (
        page.pairs(_provenance(summary, config))
        + _folded("All metrics of the last step", page.pairs(last))
        + _folded("Resolved config", f"<pre>{escape(written or 'no config.yaml in this folder')}</pre>")
    )
    return page.page(
        f"{name}: Entrain run",
        f"<h1>{escape(name)}</h1>{failed}" + page.paragraphs(outcome_sentences(rows, summary), "outcome"),
        {
            "Alarms": _alarms(read_alarms(folder)),
            "What moved entropy": page.paragraphs(story(rows) or ["This run has no figures of it."], ""),
            "Curves": f'<div class="charts">{curves}</div>'
            + page.paragraphs([f"Nothing to draw in this run: {', '.join(undrawn)}."] if undrawn else [], "soft"),
            "Entropy and accuracy": page.paragraphs(law_sentences(rows, curve, fitted), "") + _correlations(rows),
            "Responses of the last saved step": section(responses, tokenizer_of(folder, config)),
            "Where the time went": page.table(time_table(rows)),
            "Settings other than the defaults": _settings(config),
            "What ran": provenance,
        },
    )


def outcome_sentences(rows: Sequence[Row], summary: dict[str, Any] | None) -> list[str]:
    """What came of the run, in words: status, held-out accuracy, entropy, verdicts."""
    steps = counted(int(rows[-1]["step"]), "step") if rows else "no step"
    if summary is None:
        sentences = [f"The run has not ended or was cut off; it has recorded {steps}."]
    else:
        sentences = [f"The run {summary['status']} after {steps}, in {duration(summary['seconds'])}."]
    for name, figures in evaluations(rows).items():
        measured = figures["avg_at_k"]
        sentences.append(
            f"Accuracy on {name} (avg@{int(measured['k'] or 1)}): {change(measured['base'], measured['final'])}."
        )
    entropies = [row["entropy/token_mean"] for row in rows if "entropy/token_mean" in row]
    if entropies:
        sentences.append(f"Token entropy: {change(entropies[0], entropies[-1])} nats.")
    if totals := verdict_totals(rows):
        sentences.append(f"Verdicts on training responses: {verdict_words(totals)}.")
    sentences += [failure for failure in ((summary or {}).get("loggers") or {}).values() if failure is not None]
    return sentences


def law_sentences(rows: Sequence[Row], curve: Curve, fitted: Sequence[Line]) -> list[str]:
    """The law on this run, its rivals and its early forecast, and what the first parts of the run brought."""
    [law] = [line for line in fitted if line.form is EXPONENTIAL]
    if not isinstance(law.fit, Fit) or law.fit.ceiling is None:
        return [f"The law between entropy and accuracy is not fitted: {law.fit}."]
    a, b, ceiling = -law.fit.slope.value, law.fit.intercept.value, law.fit.ceiling
    rivals = ", ".join(f"{line.form.text} {line.fit.rmse:.4f}" for line in fitted if isinstance(line.fit, Fit))
    found = [
        f"{EXPONENTIAL.text} on {law.fit.points} steps: a = {a:.3f}, b = {b:.3f}; at H = 0 accuracy would be "
        f"{ceiling.value:.3f} (95 % interval {ceiling.low:.3f} to {ceiling.high:.3f}, were the steps independent).",
        f"RMSE of the forms: {rivals}.",
    ]
    if isinstance(law.forecast, Forecast):
        made = law.forecast
        said, was = curve.scores[-1] + made.final_error, curve.scores[-1]
        found.append(
            f"Forecast from the first {made.fit.points} steps of the {made.predicted} after: RMSE {made.rmse:.4f}; "
            f"at the last step it says {said:.3f}, and {was:.3f} was measured."
        )
    for part, brought in early(rows).items():
        drop, gain = ("no" if each is None else f"{each:.0%} of the" for each in (brought.drop, brought.gain))
        found.append(f"The first {part} of the steps brought {drop} fall of entropy and {gain} gain of accuracy.")
    return found


def time_table(rows: Sequence[Row]) -> list[list[str]]:
    """Phase, time over all steps, share of it; the longest first."""
    spent = {phase: sum(row.get(f"time/{phase}_s", 0.0) for row in rows) for phase in (*PHASES, "other")}
    total = sum(spent.values())
    found = sorted(((phase, s) for phase, s in spent.items() if s), key=lambda each: -each[1])
    return [
        ["phase", "time", "share"],
        *([phase.replace("_", " "), duration(seconds), share(seconds / total)] for phase, seconds in found),
    ]


def settings_apart(config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(setting, value of the run, default) of each that differs; defaults that depend on the machine are left out."""
    defaults = _defaults()
    return [
        (name, value, defaults.get(name, "-"))
        for name, value in flat(config)
        if name not in NOT_SETTINGS and value != defaults.get(name, "-") and "${" not in str(defaults.get(name))
    ]


@cache
def _defaults() -> dict[str, Any]:
    return yaml.safe_load(flat_defaults())


def _settings(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return page.paragraphs(["There is no config.yaml in this folder."], "soft")
    found = settings_apart(config)
    if not found:
        return page.paragraphs(["None."], "soft")
    return page.table([["setting", "here", "default"], *([name, str(a), str(b)] for name, a, b in found)])


def _alarms(alarms: Sequence[Mapping[str, Any]]) -> str:
    if not alarms:
        return page.paragraphs(["None."], "soft")
    return page.paragraphs(alarm_sentences(alarms), "alarm")


def alarm_sentences(alarms: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first of each alarm, and how often it began; those that differ in their figures only are one."""
    same: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for alarm in alarms:
        same.setdefault((alarm["kind"], re.sub(r"[\d.]+", "", alarm["sentence"])), []).append(alarm)
    return [
        f"Step {first['step']}: {first['sentence']}."
        + (f" It began {len(more) + 1} times, last at step {more[-1]['step']}." if more else "")
        for first, *more in same.values()
    ]


def _correlations(rows: Sequence[Row]) -> str:
    found = correlations(rows)
    if not found:
        return ""
    table = [
        ["metric", "Spearman's rho with token entropy", "steps"],
        *([each.metric, f"{each.rho:+.2f}", str(each.points)] for each in found),
    ]
    note = "Over the steps of this run. Two curves that run alike need not have to do with each other."
    strongest = page.table(table[: STRONGEST + 1]) + page.paragraphs([note], "soft")
    return strongest + (_folded("All correlations", page.table(table)) if len(found) > STRONGEST else "")


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _provenance(summary: Mapping[str, Any] | None, config: Mapping[str, Any] | None) -> dict[str, str]:
    if summary is None:
        return {"config hash": config_hash(config) if config else "unknown"}
    versions = {name: version for name, version in summary["versions"].items() if version is not None}
    return {"config hash": summary["config_hash"] or "unknown", "started": summary["started"] or "unknown", **versions}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m launch.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="folder of the run, the one that holds metrics.jsonl")
    parser.add_argument("--serve", action="store_true", help="serve the report on this machine until Ctrl-C")
    parser.add_argument("--port", type=int, default=8088, help="where to serve it; 0 takes a free one")
    asked = parser.parse_args(arguments)
    try:
        if asked.serve:
            from launch.serve import serve

            serve(asked.run, asked.port)
        else:
            print(write_report(asked.run))
    except (RunFolderError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
