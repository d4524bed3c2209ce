"""Where the wall time of a step goes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

PHASES = ("generate", "verify", "reference", "advantages", "old_logprobs", "update", "sync", "evaluate", "save")
# What the learner's ranks are busy in.
OF_LEARNER = ("old_logprobs", "update", "sync")
TIME_METRICS = tuple(f"time/{phase}_s" for phase in (*PHASES, "other"))


class Phases:
    """Adds up the wall time of each phase of one step.

    `with phases("generate"): ...` may be entered several times a step. Phases do not nest, so that no second is counted
    twice. A step lasts from the construction, or the last `row()`, to the next `row()`.

    clock  returns seconds, never runs backwards
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._open: str | None = None
        self._restart()

    def _restart(self) -> None:
        self._spent_s = dict.fromkeys(PHASES, 0.0)
        self._started = self._clock()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        if phase not in PHASES:
            raise ValueError(f"no phase is called {phase!r}; the phases are {', '.join(PHASES)}")
        if self._open is not None:
            raise RuntimeError(f"phase {phase!r} was entered inside phase {self._open!r}; phases do not nest")
        self._open = phase
        entered = self._clock()
        try:
            yield
        finally:
            self._spent_s[phase] += self._clock() - entered
            self._open = None

    def row(self) -> dict[str, float]:
        """`time/<phase>_s` of every phase, `time/other_s` and their sum `time/step_s`, in s; starts the next step."""
        if self._open is not None:
            raise RuntimeError(f"the step cannot end inside phase {self._open!r}")
        step_s = self._clock() - self._started
        row = {f"time/{phase}_s": spent for phase, spent in self._spent_s.items()}
        row["time/other_s"] = step_s - sum(self._spent_s.values())
        row["time/step_s"] = step_s
        self._restart()
        return row


def learner_idle_share(row: Mapping[str, float]) -> dict[str, float]:
    """Share of a step in which the ranks of the learner had nothing to do; from a row of `Phases`.

    What a rank waits for within a phase, others that have more tokens, is not in it. Nothing of a step without length.
    """
    if not row["time/step_s"]:
        return {}
    busy_s = sum(row[f"time/{phase}_s"] for phase in OF_LEARNER)
    return {"speed/learner_idle_share": 1 - busy_s / row["time/step_s"]}
