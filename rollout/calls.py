"""Requests to engines one by one: begun, collected as they end, and engines that get no further are noticed."""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from rollout.failures import EngineFailed
from rollout.pool import POLL_S, RolloutPool, died, hung
from rollout.types import GenerationRequest, Key, Response, Sampling
from rollout.watch import Watch

# How long an engine waits for a request to end before it answers that none has.
LONG_POLL_S = 5.0
# An engine and its incarnation.
Owner = tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """What one engine has to say: responses that have ended, None for those it was called off, or what became of it."""

    engine: int
    incarnation: int
    ended: list[tuple[Key, Response | None]]
    lost: str | None


class Engines(Protocol):
    """What the collector asks of the engines."""

    def __len__(self) -> int: ...

    def incarnation(self, engine: int) -> int:
        """How often the engine has been replaced."""
        ...

    def submit(self, engine: int, incarnation: int, requests: Mapping[Key, GenerationRequest]) -> None:
        """Begin to draw, without waiting. Does nothing where the engine is of another incarnation."""
        ...

    def call_off(self, engine: int, incarnation: int, keys: Sequence[Key]) -> None:
        """What the engine draws under `keys` is not wanted any more; it still answers, without waiting."""
        ...

    def collect(self, busy: Collection[int], wait_s: float, watched: bool) -> list[Answer]:
        """What the `busy` engines have to say, after `wait_s` at most; `watched`: they should get further."""
        ...

    def replace(self, lost: Mapping[int, str]) -> None:
        """Start others in the place of `lost`, with the model's own weights. Raises RolloutFailed."""
        ...

    def refresh(self) -> None:
        """Bring the weights that the others have to those that were replaced."""
        ...

    def connect(self) -> None:
        """Let the next transfer of weights reach those that were replaced."""
        ...

    def whole_rollout(self) -> None:
        """None was lost in a whole rollout."""
        ...


class EngineCalls:
    """`Engines` of a pool of Ray actors. `collect` is for one thread alone.

    sampling  of the requests that are submitted from now on; may be changed between rollouts
    """

    def __init__(
        self, pool: RolloutPool, sampling: Sampling, stall_s: float, clock: Callable[[], float] = time.monotonic
    ):
        self._pool, self.sampling, self._stall_s, self._clock = pool, sampling, stall_s, clock
        self._begun: deque[tuple[Any, Owner]] = deque()
        self._waiting: dict[Any, Owner] = {}
        self._polls: dict[Owner, Any] = {}
        self._watches: dict[Owner, Watch] = {}
        self._asked: dict[Owner, Any] = {}
        self._looked = clock()

    def __len__(self) -> int:
        return len(self._pool.actors)

    def incarnation(self, engine: int) -> int:
        return self._pool.incarnation(engine)

    def submit(self, engine: int, incarnation: int, requests: Mapping[Key, GenerationRequest]) -> None:
        self._begin(self._pool.submit(engine, incarnation, requests, self.sampling), (engine, incarnation))

    def call_off(self, engine: int, incarnation: int, keys: Sequence[Key]) -> None:
        self._begin(self._pool.call_off(engine, incarnation, keys), (engine, incarnation))

    def replace(self, lost: Mapping[int, str]) -> None:
        self._pool.replace(lost)

    def refresh(self) -> None:
        self._pool.refresh()

    def connect(self) -> None:
        self._pool.connect()

    def whole_rollout(self) -> None:
        self._pool.whole_rollout()

    def collect(self, busy: Collection[int], wait_s: float, watched: bool) -> list[Answer]:
        owners = [(engine, self._pool.incarnation(engine)) for engine in busy]
        while self._begun:
            call, owner = self._begun.popleft()
            self._waiting[call] = owner
        for owner in owners:
            if owner not in self._polls:
                self._poll(owner[0])
        calls = list(self._waiting)
        done, _ = ray.wait(calls, timeout=wait_s)
        if done:
            done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        answers = [answer for call in done if (answer := self._answer(call))]
        if not watched:
            self._watches.clear()
        elif not done and self._clock() - self._looked > POLL_S:
            self._looked = self._clock()
            answers += self._silent(owners)
        return answers

    def _begin(self, call: Any, owner: Owner) -> None:
        if call is not None:
            self._begun.append((call, owner))

    def _poll(self, engine: int) -> None:
        call, incarnation = self._pool.collect(engine, LONG_POLL_S)
        self._waiting[call] = engine, incarnation
        self._polls[engine, incarnation] = call

    def _answer(self, call: Any) -> Answer | None:
        owner = self._waiting.pop(call)
        if self._polls.get(owner) is call:
            del self._polls[owner]
        try:
            ended = ray.get(call, timeout=POLL_S)
        except (ray.exceptions.RayActorError, EngineFailed) as error:
            return Answer(*owner, [], died(owner[0], error))
        return Answer(*owner, ended, None) if ended else None

    def _silent(self, owners: list[Owner]) -> list[Answer]:
        """Those among the busy that have hung. An engine is watched from when it gets busy until it is not."""
        self._watches = {owner: self._watches.get(owner) or self._watch(owner) for owner in owners}
        for owner, watch in self._watches.items():
            self._ask(owner, watch)
        silent = [owner for owner, watch in self._watches.items() if watch.silent(owner[0])]
        return [Answer(*owner, [], hung(owner[0], self._stall_s)) for owner in silent]

    def _watch(self, owner: Owner) -> Watch:
        return Watch([owner[0]], self._stall_s, self._clock)

    def _ask(self, owner: Owner, watch: Watch) -> None:
        """Pass on to `watch` what the engine has said, and ask it again."""
        if owner in self._asked:
            if not ray.wait([self._asked[owner]], timeout=0)[0]:
                return
            try:
                watch.heard(owner[0], ray.get(self._asked.pop(owner), timeout=POLL_S))
            except (ray.exceptions.RayError, EngineFailed):
                return  # the call for what has ended says so too
        self._asked[owner] = self._pool.actors[owner[0]].progress.remote()
