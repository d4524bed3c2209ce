"""How many of a program's tests passed, and what that is worth."""

from dataclasses import dataclass

from reward.sandbox import End, Outcome

MAX_LAST_LINE = 200  # characters of the last line of stderr

LIMITS = {
    End.WALL_TIME: "time limit",
    End.CPU_TIME: "limit of processor time",
    End.MEMORY: "limit of memory",
    End.OUTPUT: "limit of output",
    End.FILES: "limit of files",
    End.KILLED: "killed",
}


@dataclass(frozen=True)
class Results:
    """
    passed  tests
    total   tests there are, None where that is not known because they were not run to their end
    detail  one sentence about the first that failed, "" where none did
    """

    passed: int
    total: int | None
    detail: str

    def score(self, scoring: str) -> float:
        """In [0, 1]: under `all` whether every test passed, under `share` their share. An unknown number gives 0."""
        if not self.total:
            return 0.0
        return float(self.passed == self.total) if scoring == "all" else self.passed / self.total


def ending(outcome: Outcome) -> str:
    """How a program ended, for a person; "" where it did so by itself, without an error."""
    if outcome.end in LIMITS:
        return LIMITS[outcome.end]
    if outcome.end is End.SIGNALLED:
        return f"signal {-outcome.exit_code}"
    if outcome.exit_code == 0:
        return ""
    last = outcome.stderr.decode(errors="replace").strip().rpartition("\n")[2][:MAX_LAST_LINE]
    return f"exit code {outcome.exit_code}" + (f", {last}" if last else "")
