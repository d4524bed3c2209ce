"""Runs verifications over a few killable children. No Ray here: it works in any process.

The deadline of a verification counts from its execution: a child announces the start of a batch, and each report is
the start of the next. A child that overruns, ends or runs out of memory costs one verdict; the rest of its batch goes
on in a fresh one. One that is killed from outside costs none at first: its request is judged once more. A child that
has judged `recycle_after` requests, or that a verification left in a state that cannot be put back (`reward.hygiene`),
is replaced too, at no verdict's cost.
"""

import itertools
import math
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from reward.child import STARTED, NoReport, decode_report, encode
from reward.fork_server import ForkedChild, ForkServer
from reward.types import FailureKind, Verdict, VerificationRequest
from reward.wire import Closed, Overlong

MAX_BATCH = 16  # requests a child gets in one message; small enough that no child idles long beside a slow one
BATCHES_PER_CHILD = 2  # handed out at a time: one at work, and the next, so that no child waits for the caller
HANDSHAKE_S = 10.0  # from a message to the child's announcement, which takes it well under a millisecond
_MISTAKE_S = 6 * HANDSHAKE_S  # beyond any deadline that is kept; passing it is a mistake in this file


class _Child:
    """One child process; `alive` turns false with whatever ended it, `killed` true where somebody else killed it."""

    def __init__(self, server: ForkServer, recycle_after: int):
        self._server = server
        self._process: ForkedChild = server.fork()
        self._left = recycle_after
        self._has_worked = False
        self.alive = True
        self.killed = False

    def verdicts(self, frames: Sequence[bytes], timeout_s: float, deadline: float) -> Iterator[Verdict]:
        """Verdicts of encoded requests, in order. Stops early after a failure that ended the child (its verdict is the
        last), where the child is due to be replaced, when the batch's `deadline` passes, or, without any, where the
        child was found dead."""
        channel = self._process.channel
        frames = frames[: self._left]
        try:
            channel.send(b"[" + b",".join(frames) + b"]", time.monotonic() + HANDSHAKE_S)
            started = channel.receive(time.monotonic() + HANDSHAKE_S) == STARTED
            problem = "it wrote something else than its announcement"
        except (Closed, Overlong, TimeoutError) as error:
            started, problem = False, str(error)
        if not started:
            code = self._bury()
            if not self._has_worked:  # a fresh child should live: asking one more would go on for ever
                yield Verdict.failed(FailureKind.CRASH, f"no child would start ({problem}, exit code {code})", 0.0)
            return
        self._has_worked = True
        for index in range(len(frames)):
            began = time.monotonic()
            limit = min(began + timeout_s, deadline)
            try:
                report = decode_report(channel.receive(limit))
                if report.index != index:
                    raise NoReport(f"the report of request {report.index} in the place of {index}")
            except TimeoutError:
                self._kill()
                setting = "reward.timeout_s" if limit < deadline else "reward.deadline_s"
                yield Verdict.failed(FailureKind.TIMEOUT, f"not finished within {setting}", time.monotonic() - began)
                return
            except (NoReport, Overlong) as error:
                self._kill()
                detail = f"the verifier wrote into the connection of its child: {error}"
                yield Verdict.failed(FailureKind.CRASH, detail, time.monotonic() - began)
                return
            except Closed:
                seconds = time.monotonic() - began
                code = self._bury()
                self.killed = code == -signal.SIGKILL
                yield _unasked_end(code, seconds)
                return
            self._left -= 1
            if report.spent or not self._left:
                self._kill()
            yield report.verdict
            if not self.alive:
                return

    def _kill(self) -> None:
        self.alive = False
        self._server.kill(self._process)

    def _bury(self) -> int | None:
        self.alive = False
        return self._server.bury(self._process)


def _unasked_end(exit_code: int | None, seconds: float) -> Verdict:
    if exit_code == -signal.SIGKILL:
        detail = "the child was killed from outside, as the kernel does where memory is short (reward.memory_mb)"
        return Verdict.failed(FailureKind.MEMORY, detail, seconds)
    if exit_code is None:
        return Verdict.failed(FailureKind.CRASH, "the verifier closed the connection of its child", seconds)
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    return Verdict.failed(FailureKind.CRASH, f"the child ended by {how}", seconds)


class Keeper:
    """`children` verifications at a time. `verify` and `stream` may be called from several threads."""

    def __init__(
        self,
        verifiers: Collection[str],
        settings: Mapping[str, Any],
        children: int,
        timeout_s: float,
        memory_mb: int,
        recycle_after: int,
        recycle_growth_mb: int,
        start_timeout_s: float,
    ):
        """Raises `VerifierImportError` and `ForkServerDied`."""
        self._children = children
        self._timeout_s = timeout_s
        self._recycle_after = recycle_after
        self._server = ForkServer(verifiers, settings, memory_mb, recycle_growth_mb, start_timeout_s)
        # As many places as threads, so a thread always finds one. None is a place whose child has ended.
        self._places: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        for _ in range(children):
            self._places.put(_Child(self._server, recycle_after))
        self._threads = ThreadPoolExecutor(children, thread_name_prefix="verifier-child")

    def verify(self, requests: Sequence[VerificationRequest], deadline_s: float) -> list[Verdict]:
        """Verdicts in the order of `requests`; those without one after `deadline_s` seconds are timeouts.

        Raises `ForkServerDied`, after which this keeper is of no more use.
        """
        began = time.monotonic()
        limit_s = deadline_s + _MISTAKE_S
        return list(self._stream(requests, began, began + deadline_s, math.inf, limit_s))

    def stream(self, requests: Iterable[VerificationRequest], window_chars: float) -> Iterator[Verdict]:
        """Verdicts in the order of `requests`, which are taken a few at a time, as children become free.

        While one verdict is late, verdicts after it are held back until their requests come to `window_chars`
        characters of text. Raises `ForkServerDied`, and at once whatever `requests` raises.
        """
        # A batch waits for those that its children were given before it, and each of its requests for those before.
        limit_s = (BATCHES_PER_CHILD + 1) * MAX_BATCH * self._timeout_s + _MISTAKE_S
        yield from self._stream(requests, None, math.inf, window_chars, limit_s)

    def close(self) -> None:
        """Ends all children, in the middle of their work if need be."""
        self._server.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _stream(
        self,
        requests: Iterable[VerificationRequest],
        handed_over: float | None,
        deadline: float,
        window_chars: float,
        limit_s: float,
    ) -> Iterator[Verdict]:
        """`handed_over` is the moment from which requests count as queued, None where it is that of their taking."""
        waiting: deque[tuple[int, Future[list[Verdict]]]] = deque()
        held = 0
        # Requests become messages no faster than children take them, however many there are.
        slots = threading.Semaphore(BATCHES_PER_CHILD * self._children)
        for batch in self._batches(requests):
            since = time.monotonic() if handed_over is None else handed_over
            while waiting and (held >= window_chars or waiting[0][1].done()):
                size, first = waiting.popleft()
                held -= size
                yield from first.result(limit_s)
            if not slots.acquire(timeout=limit_s):
                raise RuntimeError(f"no verifier child became free in {limit_s:g} s, and each has a deadline")
            future = self._threads.submit(self._run, batch, since, deadline)
            future.add_done_callback(lambda _: slots.release())
            size = sum(len(request.prompt) + len(request.response) for request in batch)
            waiting.append((size, future))
            held += size
        for _, future in waiting:
            yield from future.result(limit_s)

    def _batches(self, requests: Iterable[VerificationRequest]) -> Iterator[list[VerificationRequest]]:
        """Equal ones for all children, round after round."""
        source = iter(requests)
        while taken := list(itertools.islice(source, self._children * MAX_BATCH)):
            size = math.ceil(len(taken) / self._children)
            yield from (taken[start : start + size] for start in range(0, len(taken), size))

    def _run(self, requests: Sequence[VerificationRequest], since: float, deadline: float) -> list[Verdict]:
        verdicts: list[Verdict | None] = [None] * len(requests)
        frames: list[tuple[int, bytes]] = []
        for i, request in enumerate(requests):
            try:
                frames.append((i, encode(request)))
            except (TypeError, ValueError) as error:
                verdicts[i] = Verdict.failed(FailureKind.BAD_REFERENCE, f"a request must be JSON: {error}", 0.0)
        done, killed = 0, set[int]()
        child = self._places.get_nowait()
        try:
            while done < len(frames) and time.monotonic() < deadline:
                if child is None or not child.alive:
                    child = _Child(self._server, self._recycle_after)
                for verdict in child.verdicts([frame for _, frame in frames[done:]], self._timeout_s, deadline):
                    if child.killed and done not in killed:
                        # Nothing says that it was this request's doing: it is judged once more.
                        killed.add(done)
                        break
                    queued_s = max(0.0, time.monotonic() - verdict.seconds - since)
                    verdicts[frames[done][0]] = replace(verdict, queued_s=queued_s)
                    done += 1
        finally:
            self._places.put(child if child is not None and child.alive else None)
        late = Verdict.failed(FailureKind.TIMEOUT, "not started within reward.deadline_s", 0.0)
        late = replace(late, queued_s=time.monotonic() - since)
        return [late if verdict is None else verdict for verdict in verdicts]
