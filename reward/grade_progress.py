"""A progress bar on the terminal, for a command whose standard output may be data."""

import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO, Self

from rich import progress
from rich.console import Console

from reward.types import Verdict


class Progress:
    """Rows and failures so far, and how far a file has been read. Nothing where standard error is no terminal, or
    where the rows themselves go to one."""

    def __init__(self, source: BinaryIO, out: BinaryIO):
        self._is_shown = sys.stderr is not None and sys.stderr.isatty() and not out.isatty()
        self._rows = self._failed = 0
        if self._is_shown:
            status = os.fstat(source.fileno())
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=status.st_size if stat.S_ISREG(status.st_mode) else None)

    def watched(self, lines: BinaryIO) -> Iterator[bytes]:
        """The same lines."""
        for line in lines:
            yield line
            if self._is_shown:
                self._bar.advance(self._task, len(line))

    def count(self, verdict: Verdict) -> None:
        if self._is_shown:
            self._rows += 1
            self._failed += verdict.failure is not None
            self._bar.update(self._task, description=f"{self._rows} rows, {self._failed} failed")

    def __enter__(self) -> Self:
        if self._is_shown:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_shown:
            self._bar.stop()
