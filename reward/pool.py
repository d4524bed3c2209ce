"""The pool of Ray workers that judge responses, seen from the driver.

Workers are given a few requests at a time, so that a step of any size fills neither the object store nor a worker. A
worker that dies is replaced, and its requests are issued once more, one by one; the second time they become failures of
kind `crash`. Ray must be running. `verify` blocks, and may be called from several threads at once.
"""

import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError

from reward.config import RewardConfig
from reward.fork_server import ForkServerDied
from reward.keeper import MAX_BATCH, Keeper
from reward.types import FailureKind, Verdict, VerificationRequest
from reward.verifiers import UnknownVerifier, VerifierImportError, check_names

START_TIMEOUT_S = 120.0  # of an actor: its process, the libraries of the verifiers, the first children
GRACE_S = 10.0  # beyond the deadline that a worker keeps by itself
ATTEMPTS = 2
CALLS_PER_WORKER = 2  # of one `verify`: one at work, and the next, so that no worker waits for the driver
ROUNDS_PER_CALL = 4  # batches for each child in one call; requests travel in calls, so this bounds what is copied

_WORKER_LOST = (RayActorError, OutOfMemoryError, ForkServerDied, GetTimeoutError)


def shares(count: int, workers: int, longest: int) -> list[list[int]]:
    """Indices of `count` requests dealt out like cards, so that the samples of one slow prompt are spread.

    An equal number of shares for each worker, none longer than `longest`; empty ones are left out.
    """
    number = workers * math.ceil(count / (longest * workers))
    return [list(range(first, count, number)) for first in range(min(number, count))]


@dataclass(frozen=True)
class _Call:
    """Requests that a worker has been given, by their indices; `queued_s` is how long they waited for that."""

    worker: Any
    indices: Sequence[int]
    attempt: int
    queued_s: float


class RewardWorker:
    """Ray actor around a `Keeper`."""

    def __init__(
        self,
        verifiers: Collection[str],
        config: RewardConfig,
        search_path: Sequence[str],
        on_start: Callable[[], object] | None,
    ):
        """`search_path` is the driver's `sys.path`: what the driver can import, a verifier of the user's own most of
        all, is found here too where the folders exist. `on_start` runs before any child starts."""
        sys.path += [entry for entry in search_path if entry not in sys.path]
        if on_start is not None:
            on_start()
        self._keeper: Keeper | None = None
        self._problem = ""
        try:
            self._keeper = Keeper(
                verifiers,
                config.verifier_settings(),
                config.children_per_worker,
                config.timeout_s,
                config.memory_mb,
                config.recycle_after,
                config.recycle_growth_mb,
                START_TIMEOUT_S,
            )
        except VerifierImportError as error:  # a constructor that raises would reach the driver as a dead actor
            self._problem = str(error)

    def problem(self) -> str:
        """Why this worker can judge nothing, "" where it can."""
        return self._problem

    def verify(self, requests: Sequence[VerificationRequest], deadline_s: float) -> list[Verdict]:
        if self._keeper is None:
            raise VerifierImportError(self._problem)
        return self._keeper.verify(requests, deadline_s)

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.close()


class RewardPool:
    """Verdicts from `config.workers` Ray actors. A context manager; `close` leaves no process behind."""

    def __init__(
        self,
        config: RewardConfig,
        verifiers: Collection[str],
        on_start: Callable[[int], object] | None = None,
    ):
        """Starts the actors without waiting for them. Raises `UnknownVerifier`.

        on_start  called in each actor with its index before its children start, to set up logs for example
        """
        check_names(verifiers)
        self._config = config
        self._verifiers = frozenset(verifiers)
        self._on_start = on_start
        self._lock = threading.Lock()
        self._turn = 0
        self._is_ready = False
        self._workers = [self._start_worker(index) for index in range(config.workers)]

    @property
    def actors(self) -> list[Any]:
        """The Ray actors, in order; a replaced one takes the place of the one before."""
        return list(self._workers)

    def wait_ready(self) -> None:
        """Returns when every actor can judge. Raises `VerifierImportError`, `TimeoutError` after `START_TIMEOUT_S`, and
        Ray's `RayActorError` for an actor that died before it was ready."""
        try:
            problems = ray.get([worker.problem.remote() for worker in self._workers], timeout=START_TIMEOUT_S)
        except GetTimeoutError as error:
            raise TimeoutError(
                f"not all of reward.workers={len(self._workers)} actors started within {START_TIMEOUT_S:g} s"
            ) from error
        for problem in problems:
            if problem:
                raise VerifierImportError(problem)
        self._is_ready = True

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Verdict]:
        """Verdicts in the order of `requests`, within `config.deadline_s` and a little grace.

        What a lost worker or a passed deadline leaves open becomes a failure. Raises `UnknownVerifier` for a request
        whose verifier the pool was not made for, and `VerifierImportError`.
        """
        for name in {request.verifier for request in requests} - self._verifiers:
            check_names([name])
            made_for = ", ".join(sorted(self._verifiers))
            raise UnknownVerifier(f"this reward pool was made for {made_for}, not for {name!r}")
        if not self._is_ready:
            self.wait_ready()
        began = time.monotonic()
        deadline = began + self._config.deadline_s
        verdicts: list[Verdict | None] = [None] * len(requests)
        longest = ROUNDS_PER_CALL * MAX_BATCH * self._config.children_per_worker
        pending = deque((share, 1) for share in shares(len(requests), self._config.workers, longest))
        running: dict[ray.ObjectRef, _Call] = {}
        while pending or running:
            while pending and (worker := self._free_worker(running.values(), pending[0][1])) is not None:
                indices, attempt = pending.popleft()
                now = time.monotonic()
                reference = worker.verify.remote([requests[i] for i in indices], max(0.0, deadline - now))
                running[reference] = _Call(worker, indices, attempt, queued_s=now - began)
            remaining_s = max(0.0, deadline - time.monotonic())
            ended, _ = ray.wait(list(running), num_returns=1, timeout=remaining_s + GRACE_S)
            if not ended:
                for worker in {call.worker for call in running.values()}:
                    self._replace(worker)
                break
            for reference in ended:
                call = running.pop(reference)
                try:
                    found = ray.get(reference, timeout=GRACE_S)
                except _WORKER_LOST as error:
                    self._replace(call.worker)
                    loss = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                    if call.attempt < ATTEMPTS:
                        # One by one, so that a request that ends its worker takes no other with it.
                        pending.extendleft(([i], call.attempt + 1) for i in call.indices)
                        continue
                    crash = Verdict.failed(FailureKind.CRASH, f"the reward worker was lost twice ({loss})", 0.0)
                    found = [crash] * len(call.indices)
                for i, verdict in zip(call.indices, found, strict=True):
                    verdicts[i] = replace(verdict, queued_s=verdict.queued_s + call.queued_s)
        late = Verdict.failed(FailureKind.TIMEOUT, "the reward worker did not answer within reward.deadline_s", 0.0)
        late = replace(late, queued_s=time.monotonic() - began)
        return [late if verdict is None else verdict for verdict in verdicts]

    def close(self) -> None:
        """Ends the actors and their children."""
        with self._lock:
            workers, self._workers = self._workers, []
        closing = [worker.close.remote() for worker in workers]
        ray.wait(closing, num_returns=len(closing), timeout=GRACE_S)
        for worker in workers:
            ray.kill(worker)

    def __enter__(self) -> "RewardPool":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _free_worker(self, running: Iterable[_Call], attempt: int) -> Any | None:
        """The worker with the fewest calls of these, None where none may have another; a second attempt is made by a
        worker that has nothing else to lose."""
        with self._lock:
            self._turn += 1
            first = self._turn % max(1, len(self._workers))
            workers = self._workers[first:] + self._workers[:first]
        if not workers:
            raise RuntimeError("this reward pool is closed")
        load = Counter[Any]()
        for call in running:
            load[call.worker] += 1 if call.attempt == 1 else CALLS_PER_WORKER
        least = min(workers, key=lambda worker: load[worker])
        return least if load[least] < (CALLS_PER_WORKER if attempt == 1 else 1) else None

    def _start_worker(self, index: int):
        on_start = partial(self._on_start, index) if self._on_start else None
        return (
            ray.remote(RewardWorker)
            .options(
                num_cpus=0,
                scheduling_strategy="SPREAD",
                max_concurrency=32,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
            )
            .remote(sorted(self._verifiers), self._config, sys.path, on_start)
        )

    def _replace(self, worker) -> None:
        with self._lock:
            if worker in self._workers:  # another thread may have seen the loss first
                ray.kill(worker)
                index = self._workers.index(worker)
                self._workers[index] = self._start_worker(index)
