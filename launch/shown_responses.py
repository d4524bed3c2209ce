"""Responses of a run for a reader: some of each outcome, their tokens coloured by entropy and by covariance. HTML."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet
import tokenizers

from launch.run_folder import ROLLOUTS
from reward.types import FailureKind, Outcome, Verdict

SAMPLES = 6
MOST_TOKENS = 400  # of a response that are coloured
LEVELS = 9  # of colour
COLUMNS = "uid sample prompt response score failure answer rule finish_reason token_ids logprobs entropies advantage"
# Blue for entropy; for covariance ochre where it is above 0 and lowers entropy, violet below, as in the charts.
COLOURS = {"e": "5, 148, 237", "p": "178, 123, 2", "n": "133, 65, 255"}
STYLE = ".tokens span { border-radius: .15rem; } .scale span { padding: 0 .4rem; }" + "".join(
    f".{kind}{level} {{ background: rgba({rgb}, {level / LEVELS * 0.75:.2f}); }}"
    for kind, rgb in COLOURS.items()
    for level in range(1, LEVELS + 1)
)
Record = Mapping[str, Any]


class Decoder(Protocol):
    """A tokenizer of the package tokenizers."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str: ...


def last_responses(folder: Path) -> list[Record]:
    """All records of the last saved step, with the columns of `COLUMNS`; none where no rollouts were kept."""
    files = sorted((folder / ROLLOUTS).glob("step_*.parquet"))
    return pyarrow.parquet.read_table(files[-1], columns=COLUMNS.split()).to_pylist() if files else []


def tokenizer_of(folder: Path, config: Mapping[str, Any] | None) -> Decoder | None:
    """That of the model the run has saved, or of the one it began with; None where there is no such file here."""
    places = [folder / "model", Path(((config or {}).get("model") or {}).get("path") or folder)]
    files = [place / "tokenizer.json" for place in places]
    return next((tokenizers.Tokenizer.from_file(str(file)) for file in files if file.is_file()), None)


def chosen(records: Sequence[Record]) -> list[Record]:
    """Up to `SAMPLES`, from each outcome in turn so that rare ones show, of different prompts where there are any."""
    piles: dict[Outcome, list[Record]] = {outcome: [] for outcome in Outcome}
    before: Counter[tuple[Outcome, str]] = Counter()
    ranked = []
    for record in records:
        key = (outcome_of(record), record["uid"])
        ranked.append((before[key], record))
        before[key] += 1
    for _, record in sorted(ranked, key=lambda each: each[0]):
        piles[outcome_of(record)].append(record)
    found: list[Record] = []
    while len(found) < SAMPLES and any(piles.values()):
        found += [pile.pop(0) for pile in piles.values() if pile]
    return found[:SAMPLES]


def outcome_of(record: Record) -> Outcome:
    failure = None if record["failure"] is None else FailureKind(record["failure"])
    return Verdict(record["score"], failure, record["answer"], record["rule"], detail="", seconds=0.0).outcome


def covariances(records: Sequence[Record]) -> list[np.ndarray | None]:
    """(log p - mean) (A - mean) of each response's tokens, means over the tokens of all that were trained on.

    Cui et al. (arXiv 2505.22617, eq. 10), with the engine's log-probabilities. None of a response without advantage.
    """
    trained = [record for record in records if record["advantage"] is not None]
    if not trained:
        return [None] * len(records)
    logprobs = np.concatenate([np.asarray(record["logprobs"], float) for record in trained])
    advantages = np.repeat([record["advantage"] for record in trained], [len(r["logprobs"]) for r in trained])
    mean, centre = logprobs.mean(), advantages.mean()
    return [
        None
        if record["advantage"] is None
        else (np.asarray(record["logprobs"], float) - mean) * (record["advantage"] - centre)
        for record in records
    ]


def pieces(tokenizer: Decoder, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; a character of several tokens comes with the last of them."""
    found, before = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(list(ids[:end]), skip_special_tokens=False)
        # An unfinished character decodes to U+FFFD, and may be finished by the next token.
        if (text.endswith("\ufffd") and end < len(ids)) or not text.startswith(before):
            found.append("")
            continue
        found.append(text[len(before) :])
        before = text
    return found


def section(records: Sequence[Record], tokenizer: Decoder | None) -> str:
    """The chosen responses of a step as HTML."""
    if not records:
        return '<p class="soft">No rollouts were kept (output.save_rollouts).</p>'
    of = {id(record): values for record, values in zip(records, covariances(records), strict=True)}
    every = [value for values in of.values() if values is not None for value in np.abs(values)]
    entropies = [value for record in records for value in record["entropies"] or ()]
    # Few tokens have most of both: the hundredth that has most is the full colour.
    full = (_full(entropies), _full(every))
    shown = "".join(_article(record, of[id(record)], tokenizer, full) for record in chosen(records))
    return f"<style>{STYLE}</style>{_scale(*full) if tokenizer else ''}{shown}"


def _full(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.99)) if len(values) else 0.0


def _scale(entropy: float, covariance: float) -> str:
    levels = (1, 3, 5, 7, 9)
    blue = "".join(f'<span class="e{level}">{level / LEVELS * entropy:.2g}</span>' for level in levels)
    signed = [*(("n", level) for level in reversed(levels)), *(("p", level) for level in levels)]
    both = "".join(
        f'<span class="{kind}{level}">{"-" if kind == "n" else "+"}{level / LEVELS * covariance:.2g}</span>'
        for kind, level in signed
    )
    of_covariance = f"covariance of its log-probability and advantage {both}: above 0 it lowers entropy"
    if not covariance:
        of_covariance = "all advantages of the step are the same, so no token has a covariance with them"
    return f'<p class="scale">entropy before the token (nats) {blue}</p><p class="scale">{of_covariance}</p>'


def _article(
    record: Record, covariance: np.ndarray | None, tokenizer: Decoder | None, full: tuple[float, float]
) -> str:
    head = f"<strong>{escape(title(record))}</strong><div class=soft>prompt</div><pre>{escape(record['prompt'])}</pre>"
    entropies = record["entropies"]
    if tokenizer is None or (entropies is None and covariance is None):
        return f"<article>{head}<div class=soft>response</div><pre>{escape(record['response'])}</pre></article>"
    text = pieces(tokenizer, record["token_ids"][:MOST_TOKENS])
    more = len(record["token_ids"]) - len(text)
    rest = f" … and {more} more tokens" if more else ""
    body = ""
    if entropies is not None:
        spans = _spans(text, entropies, full[0], "e", "e", "nats")
        body += f'<div class="soft">response, by entropy</div><pre class="tokens">{spans}{rest}</pre>'
    if covariance is not None and full[1]:
        spans = _spans(text, covariance, full[1], "p", "n", "covariance")
        body += f'<div class="soft">response, by covariance</div><pre class="tokens">{spans}{rest}</pre>'
    return f"<article>{head}{body}</article>"


def _spans(text: Sequence[str], values: Iterable[float], full: float, above: str, below: str, unit: str) -> str:
    """Each piece on the colour of its value, which the pointer shows."""
    spans = []
    for piece, value in zip(text, values, strict=False):
        level = min(LEVELS, round(LEVELS * abs(value) / full)) if full else 0
        kind = f' class="{above if value >= 0 else below}{level}"' if level else ""
        spans.append(f'<span{kind} title="{value:.2f} {unit}">{escape(piece)}</span>')
    return "".join(spans)


def title(record: Record) -> str:
    """Which response it is and what was found about it."""
    verdict = str(outcome_of(record))
    if record["failure"] is not None:
        verdict += f" ({record['failure'].replace('_', ' ')})"
    elif record["score"] not in (0.0, 1.0):
        verdict += f", score {record['score']:.3g}"
    if record["answer"] is not None:
        verdict += f", answer read by {record['rule']}: {record['answer']}"
    if record["finish_reason"] != "stop":
        verdict += f", ended by {record['finish_reason']}"
    return f"{record['uid']}, sample {record['sample']}: {verdict}"
