"""What drawing while the learner trains is worth: `python -m benchmarks.overlap [--save]`.

The real collector and stream with engines and a learner that only take time: responses of log-normal length, the
longest many times the median, and updates of a fixed length, the same as an engine needs for a batch of work, half of
it, or twice. Prints seconds per step in each mode, how near that is to the slower of the two sides alone, and how much
faster than taking turns. `--save` also writes benchmarks/results/overlap.json.
"""

import heapq
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.step import machine
from rollout.calls import Answer
from rollout.collector import Collector
from rollout.config import ASYNCHRONOUS, ONE_STEP_OFF, SYNCHRONOUS
from rollout.groups import Judged
from rollout.stream import GroupStream
from rollout.types import FinishReason, GenerationRequest, Key, Prompt, Response, VersionSpan

RESULTS = Path(__file__).parent / "results" / "overlap.json"
ENGINES, SLOTS = 2, 16
PROMPTS, SAMPLES = 8, 8
# Of one response; the work of a batch is then PROMPTS x SAMPLES of them over ENGINES x SLOTS.
MEAN_S, SIGMA = 0.1, 0.8
WORK_S = PROMPTS * SAMPLES * MEAN_S / (ENGINES * SLOTS)
WARM_UP, STEPS = 6, 20
MODES = ((SYNCHRONOUS, 0), (ONE_STEP_OFF, 1), (ASYNCHRONOUS, 1), (ASYNCHRONOUS, 2), (ASYNCHRONOUS, 4))


@dataclass
class _Engine:
    """`queue` waits for one of the slots; `running` is a heap of (end, key)."""

    queue: deque[tuple[float, Key, GenerationRequest]]
    running: list[tuple[float, Key]]
    requests: dict[Key, GenerationRequest]


class TimedEngines:
    """`Engines` whose responses take time and nothing else; events happen when they are due, however late one looks."""

    def __init__(self, seed: int):
        self._random = np.random.default_rng(seed)
        self._engines = [_Engine(deque(), [], {}) for _ in range(ENGINES)]
        self._news = threading.Condition()
        self.version = 0

    def __len__(self) -> int:
        return ENGINES

    def incarnation(self, engine: int) -> int:
        return 0

    def submit(self, engine: int, incarnation: int, requests: Mapping[Key, GenerationRequest]) -> None:
        with self._news:
            now = time.perf_counter()
            self._engines[engine].queue.extend((now, key, request) for key, request in requests.items())
            self._news.notify_all()

    def collect(self, busy: Collection[int], wait_s: float, watched: bool) -> list[Answer]:
        with self._news:
            until = time.perf_counter() + wait_s
            while True:
                answers = [Answer(e, 0, ended, None) for e in busy if (ended := self._ended(e))]
                now = time.perf_counter()
                if answers or now >= until:
                    return answers
                ends = [engine.running[0][0] for engine in self._engines if engine.running]
                self._news.wait(max(0.0, min([until, *ends]) - now))

    def call_off(self, engine: int, incarnation: int, keys: Sequence[Key]) -> None:
        raise AssertionError(keys)

    def replace(self, lost: Mapping[int, str]) -> None:
        raise AssertionError(lost)

    def refresh(self) -> None: ...

    def connect(self) -> None: ...

    def whole_rollout(self) -> None: ...

    def _ended(self, number: int) -> list[tuple[Key, Response]]:
        engine, now, ended = self._engines[number], time.perf_counter(), []
        while True:
            while engine.queue and len(engine.running) < SLOTS:
                came, key, request = engine.queue.popleft()
                engine.requests[key] = request
                heapq.heappush(engine.running, (came + self._length_s(), key))
            if not engine.running or engine.running[0][0] > now:
                return ended
            end, key = heapq.heappop(engine.running)
            ended.append((key, self._response(engine.requests.pop(key), number)))
            # What waited takes the slot when it became free, not when somebody looked.
            engine.queue = deque((max(came, end), *rest) for came, *rest in engine.queue)

    def _length_s(self) -> float:
        return float(self._random.lognormal(np.log(MEAN_S) - SIGMA**2 / 2, SIGMA))

    def _response(self, request: GenerationRequest, engine: int) -> Response:
        tokens, logprobs = np.zeros(1, np.int32), np.zeros(1, np.float32)
        span = (VersionSpan(0, self.version),)
        return Response(request.uid, request.sample, tokens, logprobs, "", FinishReason.STOP, span, engine)


def step_s(mode: str, max_staleness: int, update_s: float) -> tuple[float, float]:
    """Seconds per step after the warm-up, and the share of them that engines had nothing to do."""
    engines = TimedEngines(seed=0)
    rounds = iter(range(10**9))
    steps = WARM_UP + STEPS
    # As many batches more as the mode may draw ahead, so that engines have work to the end.
    stream = GroupStream(
        PROMPTS,
        max_staleness,
        steps + max_staleness + 1,
        in_order=mode != ASYNCHRONOUS,
        drop_stale=False,
        max_rounds=2,
        oversample=1,
        hand_out=lambda: [f"{next(rounds)}" for _ in range(PROMPTS)],
    )
    collector = Collector(
        engines,
        stream,
        lambda uid: Prompt(uid, "", np.zeros(1, np.int32), "", "", None, {}, ""),
        SAMPLES,
        0,
        lambda prompts, groups: [Judged(None, None, 0, 0) for _ in groups],
        mode == ASYNCHRONOUS,
        0,
        60.0,
    )
    collector.start()
    began = 0.0
    try:
        for step in range(1, steps + 1):
            while True:
                collector.wait_drawn()
                if collector.wait_judged():
                    break
            time.sleep(update_s)
            with collector.weights_change(step):
                engines.version = step
            if step == WARM_UP:
                began = time.perf_counter()
                collector.figures()
        took = (time.perf_counter() - began) / STEPS
        return took, collector.figures()["speed/engines_idle_share"]
    finally:
        collector.close()


def main(arguments: list[str]) -> None:
    rows = []
    print(f"{'mode':<14}{'staleness':>10}{'update s':>10}{'step s':>9}{'of the slower':>15}{'x turns':>9}{'idle':>7}")
    for share in (0.5, 1.0, 2.0):
        update_s = share * WORK_S
        turns = None
        for mode, max_staleness in MODES:
            took, idle = step_s(mode, max_staleness, update_s)
            turns = turns or took
            row = {
                "mode": mode,
                "max_staleness": max_staleness,
                "work_s": WORK_S,
                "update_s": update_s,
                "step_s": took,
                "of_the_slower": max(WORK_S, update_s) / took,
                "times_synchronous": turns / took,
                "engines_idle_share": idle,
            }
            rows.append(row)
            print(
                f"{mode:<14}{max_staleness:>10}{update_s:>10.3f}{took:>9.3f}{row['of_the_slower']:>15.1%}"
                f"{row['times_synchronous']:>9.2f}{idle:>7.1%}",
                flush=True,
            )
    if "--save" in arguments:
        RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
