"""Verdicts on a file: `python -m reward.grade --verifier math [--set reward.key=value ...] < in.jsonl > out.jsonl`.

docs/grade.md has the form of the rows. Rows are read as verdicts leave, so the input may be longer than memory.
"""

import argparse
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO

from reward.config import RewardConfig
from reward.fork_server import ForkServerDied
from reward.grade_progress import Progress
from reward.keeper import Keeper
from reward.rows import Row, UnusableRow, no_answer, read_row, written
from reward.settings import SettingsError, reward_settings
from reward.types import FailureKind, Verdict, VerificationRequest
from reward.verifiers import REGISTRY, UnknownVerifier, VerifierImportError, check_names

WINDOW_CHARS = 1 << 25  # of responses that wait behind a late one; some ten thousand of them
MAX_UNASKED = 1000  # rows without a prediction, one after another, before they are written
START_TIMEOUT_S = 120.0
UNUSABLE = 2


class Rows:
    """The rows of a stream up to its end or its first unusable line, which is then in `problem`."""

    def __init__(self, lines: Iterable[bytes], verifier: str):
        self.problem = ""
        self._lines = lines
        self._verifier = verifier

    def __iter__(self) -> Iterator[Row]:
        for number, line in enumerate(self._lines, 1):
            if not line.strip():
                continue
            try:
                yield read_row(line, self._verifier)
            except UnusableRow as error:
                self.problem = f"line {number} of the input is unusable: {error}"
                return


def judged(rows: Iterable[Row], start: Callable[[], Keeper]) -> Iterator[tuple[Row, Verdict]]:
    """Each row with its verdict, in order.

    start  makes a keeper; another one where a request has ended the fork server of the last
    """
    keeper = start()
    taken: deque[Row] = deque()  # those without a verdict yet
    source = iter(rows)
    more = True

    def requests() -> Iterator[VerificationRequest]:
        nonlocal more
        unasked = 0
        for row in source:
            taken.append(row)
            unasked = unasked + 1 if row.request is None else 0
            if row.request is not None:
                yield row.request
            elif unasked == MAX_UNASKED:
                return
        more = False

    def unanswered() -> Iterator[tuple[Row, Verdict]]:
        while taken and taken[0].request is None:
            yield taken.popleft(), no_answer()

    try:
        while more or taken:
            try:
                for verdict in keeper.stream(requests(), WINDOW_CHARS):
                    yield from unanswered()
                    yield taken.popleft(), verdict
                yield from unanswered()
            except ForkServerDied:
                # One of those that were at work did it. One by one, it takes no other with it.
                while taken:
                    row = taken.popleft()
                    keeper, verdict = _alone(keeper, row.request, start)
                    yield row, verdict
    finally:
        keeper.close()


def _alone(keeper: Keeper, request: VerificationRequest | None, start: Callable[[], Keeper]) -> tuple[Keeper, Verdict]:
    """The verdict on one request, and the keeper to go on with."""
    if request is None:
        return keeper, no_answer()
    for _ in range(2):
        try:
            (verdict,) = keeper.stream([request], WINDOW_CHARS)
            return keeper, verdict
        except ForkServerDied:
            keeper.close()
            keeper = start()
    return keeper, Verdict.failed(FailureKind.CRASH, "the verifier ended the parent of its process", 0.0)


def grade(source: BinaryIO, out: BinaryIO, verifier: str, config: RewardConfig, children: int) -> str:
    """Writes every row of `source` with its verdict to `out`; what is wrong with the first unusable line, or "".

    Raises `VerifierImportError`, and `OSError` where `source` or `out` fails.
    """

    def start() -> Keeper:
        return Keeper(
            [verifier],
            config.verifier_settings(),
            children,
            config.timeout_s,
            config.memory_mb,
            config.recycle_after,
            config.recycle_growth_mb,
            START_TIMEOUT_S,
        )

    with ExitStack() as stack:
        progress = stack.enter_context(Progress(source, out))
        rows = Rows(progress.watched(source), verifier)
        verdicts = judged(rows, start)
        stack.callback(verdicts.close)  # type: ignore[attr-defined]
        for row, verdict in verdicts:
            out.write(written(row, verdict))
            out.flush()
            progress.count(verdict)
        return rows.problem


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reward.grade",
        description="Reads rows with 'prediction' and 'gold' as lines of JSON, and writes them with a 'verdict'.",
    )
    parser.add_argument(
        "--verifier", required=True, help=f"{', '.join(sorted(REGISTRY))}, or the import path package.module:callable"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="SETTING",
        help="settings of conf/reward as a run has them, for example reward.timeout_s=10",
    )
    parser.add_argument(
        "--children", type=int, default=len(os.sched_getaffinity(0)), help="verifications at a time; one for each core"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0, 2 for input or settings that cannot be used, or 128 + n as a shell has it where the reader
    went away (SIGPIPE) or Ctrl-C was pressed (SIGINT)."""
    parsed = _arguments(arguments)
    if sys.stdin is None or sys.stdout is None:
        print("rows are read from standard input and written to standard output, and one is closed", file=sys.stderr)
        return UNUSABLE
    try:
        check_names([parsed.verifier])
        if parsed.children < 1:
            raise SettingsError(f"--children = {parsed.children} has to be at least 1")
        config = reward_settings(parsed.set)
        problem = grade(sys.stdin.buffer, sys.stdout.buffer, parsed.verifier, config, parsed.children)
    except (UnknownVerifier, SettingsError, VerifierImportError) as error:
        problem = str(error)
    except BrokenPipeError:
        return _without_output(128 + signal.SIGPIPE)
    except OSError as error:
        print(f"reading rows or writing verdicts failed: {error.strerror}", file=sys.stderr)
        return _without_output(UNUSABLE)
    except KeyboardInterrupt:
        return _without_output(128 + signal.SIGINT)
    if problem:
        print(problem, file=sys.stderr)
    return UNUSABLE if problem else 0


def _without_output(status: int) -> int:
    """Python flushes standard output once more at its end, and would complain there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
