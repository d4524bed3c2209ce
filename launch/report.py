"""The report of a run: one HTML file that needs nothing else. `python -m launch.report RUN` writes it again."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pyarrow.parquet
import yaml

from launch import page
from launch.run_folder import CONFIG, REPORT, ROLLOUTS, SUMMARY, RunFolderError, config_hash, evaluations, read_metrics
from launch.wording import Row, change, counted, duration, verdict_totals, verdict_words
from reward.types import FailureKind, Outcome, Verdict

SAMPLES = 6
SAMPLE_COLUMNS = ["uid", "sample", "prompt", "response", "score", "failure", "answer", "rule", "finish_reason"]


def write_report(folder: str | os.PathLike) -> Path:
    """Write `report.html` into the folder of a run, finished or not, and return its path.

    Reads metrics, summary, config and the last rollouts; whatever is missing is said in its place. Raises
    `RunFolderError` where there is no `metrics.jsonl`.
    """
    folder = Path(folder)
    rows = read_metrics(folder)
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8")) if (folder / SUMMARY).is_file() else None
    config = (folder / CONFIG).read_text(encoding="utf-8") if (folder / CONFIG).is_file() else None
    text = _page(folder.resolve().name, rows, summary, config, _samples(folder))
    page.write(folder / REPORT, text)
    return folder / REPORT


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


def _page(
    name: str, rows: Sequence[Row], summary: dict[str, Any] | None, config: str | None, samples: list[dict[str, Any]]
) -> str:
    # Here, because a training process imports this module at its start and draws only at its end.
    from launch.charts import charts

    error = f'<p class="failed">{escape(summary["error"])}</p>' if summary and summary["error"] else ""
    outcome = page.paragraphs(outcome_sentences(rows, summary), "outcome")
    figures = "".join(page.figure(chart.title, chart.svg) for chart in charts(rows))
    responses = (
        "".join(_sample(sample) for sample in samples)
        or '<p class="soft">No rollouts were kept (output.save_rollouts).</p>'
    )
    last = {metric: f"{value:.6g}" for metric, value in rows[-1].items()} if rows else {}
    curves = f'<div class="charts">{figures}</div>'
    provenance = (
        f"{page.pairs(_provenance(summary, config))}"
        f"<details><summary>All metrics of the last step</summary>{page.pairs(last)}</details>"
        f"<details><summary>Resolved config</summary>"
        f"<pre>{escape(config or 'no config.yaml in this folder')}</pre></details>"
    )
    return page.page(
        f"{name}: Entrain run",
        f"<h1>{escape(name)}</h1>{error}{outcome}",
        {"Curves": curves, "Responses of the last saved step": responses, "What ran": provenance},
    )


def _provenance(summary: dict[str, Any] | None, config: str | None) -> dict[str, str]:
    if summary is None:
        return {"config hash": config_hash(yaml.safe_load(config)) if config else "unknown"}
    versions = {name: version for name, version in summary["versions"].items() if version is not None}
    return {"config hash": summary["config_hash"] or "unknown", "started": summary["started"] or "unknown", **versions}


def _samples(folder: Path) -> list[dict[str, Any]]:
    """Up to `SAMPLES` responses of the last saved step, taken from each outcome in turn so that rare ones show."""
    files = sorted((folder / ROLLOUTS).glob("step_*.parquet"))
    if not files:
        return []
    piles: dict[Outcome, list[dict[str, Any]]] = {outcome: [] for outcome in Outcome}
    for record in pyarrow.parquet.read_table(files[-1], columns=SAMPLE_COLUMNS).to_pylist():
        piles[_outcome(record)].append(record)
    chosen: list[dict[str, Any]] = []
    while len(chosen) < SAMPLES and any(piles.values()):
        chosen += [pile.pop(0) for pile in piles.values() if pile]
    return chosen[:SAMPLES]


def _outcome(record: dict[str, Any]) -> Outcome:
    failure = None if record["failure"] is None else FailureKind(record["failure"])
    return Verdict(record["score"], failure, record["answer"], record["rule"], detail="", seconds=0.0).outcome


def _sample(record: dict[str, Any]) -> str:
    verdict = str(_outcome(record))
    if record["failure"] is not None:
        verdict += f" ({record['failure'].replace('_', ' ')})"
    elif record["score"] not in (0.0, 1.0):
        verdict += f", score {record['score']:.3g}"
    if record["answer"] is not None:
        verdict += f", answer read by {record['rule']}: {record['answer']}"
    if record["finish_reason"] != "stop":
        verdict += f", ended by {record['finish_reason']}"
    title = f"{record['uid']}, sample {record['sample']}: {verdict}"
    return (
        f"<article><strong>{escape(title)}</strong><div class=soft>prompt</div><pre>{escape(record['prompt'])}</pre>"
        f"<div class=soft>response</div><pre>{escape(record['response'])}</pre></article>"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m launch.report", description="Write report.html into the folder of a run."
    )
    parser.add_argument("run", type=Path, help="folder of the run, the one that holds metrics.jsonl")
    folder = parser.parse_args(arguments).run
    try:
        print(write_report(folder))
    except RunFolderError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
