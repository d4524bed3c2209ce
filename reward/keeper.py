"""Runs batches of verifications over a few killable children. No Ray here: it works in any process.

The deadline of a verification counts from its execution: a child announces the start of a batch, and each verdict is
the start of the next. A child that overruns, ends or runs out of memory costs one verdict; the rest of its batch goes
on in a fresh one.
"""

import math
import queue
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from reward.child import STARTED, decode_verdict, encode
from reward.fork_server import ForkedChild, ForkServer
from reward.types import FailureKind, Verdict, VerificationRequest
from reward.wire import Closed

MAX_BATCH = 16  # requests a child gets in one message; small enough that no child idles long beside a slow one
HANDSHAKE_S = 10.0  # from a message to the child's announcement, which takes it well under a millisecond


class _Child:
    """One child process; `alive` turns false with the failure that ended it."""

    def __init__(self, server: ForkServer):
        self._server = server
        self._process: ForkedChild = server.fork()
        self._has_worked = False
        self.alive = True

    def verdicts(self, frames: Sequence[bytes], timeout_s: float, deadline: float) -> Iterator[Verdict]:
        """Verdicts of encoded requests, in order. Stops early after a failure that ended the child (its verdict is the
        last), when the batch's `deadline` passes, or, without any, where the child was found dead."""
        channel = self._process.channel
        try:
            channel.send(b"[" + b",".join(frames) + b"]", time.monotonic() + HANDSHAKE_S)
            started = channel.receive(time.monotonic() + HANDSHAKE_S)
        except (Closed, TimeoutError) as error:
            code = self._end()
            if not self._has_worked:  # a fresh child should live: asking one more would go on for ever
                yield Verdict.failed(FailureKind.CRASH, f"no child would start ({error}, exit code {code})", 0.0)
            return
        if started != STARTED:
            raise RuntimeError(f"a verifier child opened with {started[:80]!r} instead of its announcement")
        self._has_worked = True
        for _ in frames:
            began = time.monotonic()
            limit = min(began + timeout_s, deadline)
            try:
                verdict = decode_verdict(channel.receive(limit))
            except TimeoutError:
                self._end()
                setting = "reward.timeout_s" if limit < deadline else "reward.deadline_s"
                yield Verdict.failed(FailureKind.TIMEOUT, f"not finished within {setting}", time.monotonic() - began)
                return
            except Closed:
                code = self._end()
                yield _unasked_end(code, time.monotonic() - began)
                return
            if verdict.failure is FailureKind.MEMORY:
                self._end()
            yield verdict
            if not self.alive:
                return

    def _end(self) -> int:
        self.alive = False
        return self._server.kill(self._process)


def _unasked_end(exit_code: int, seconds: float) -> Verdict:
    if exit_code == -signal.SIGKILL:
        detail = "the child was killed from outside, as the kernel does where memory is short (reward.memory_mb)"
        return Verdict.failed(FailureKind.MEMORY, detail, seconds)
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    return Verdict.failed(FailureKind.CRASH, f"the child ended by {how}", seconds)


class Keeper:
    """`children` verifications at a time. `verify` may be called from several threads."""

    def __init__(
        self,
        verifiers: Collection[str],
        settings: Mapping[str, Any],
        children: int,
        timeout_s: float,
        memory_mb: int,
        start_timeout_s: float,
    ):
        """Raises `VerifierImportError` and `ForkServerDied`."""
        self._children = children
        self._timeout_s = timeout_s
        self._server = ForkServer(verifiers, settings, memory_mb, start_timeout_s)
        # As many places as threads, so a thread always finds one. None is a place whose child has ended.
        self._places: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        for _ in range(children):
            self._places.put(_Child(self._server))
        self._threads = ThreadPoolExecutor(children, thread_name_prefix="verifier-child")

    def verify(self, requests: Sequence[VerificationRequest], deadline_s: float) -> list[Verdict]:
        """Verdicts in the order of `requests`; those without one after `deadline_s` seconds are timeouts.

        Raises `ForkServerDied`, after which this keeper is of no more use.
        """
        deadline = time.monotonic() + deadline_s
        verdicts: list[Verdict | None] = [None] * len(requests)
        frames: list[tuple[int, bytes]] = []
        for i, request in enumerate(requests):
            try:
                frames.append((i, encode(request)))
            except (TypeError, ValueError) as error:
                verdicts[i] = Verdict.failed(FailureKind.BAD_REFERENCE, f"a request must be JSON: {error}", 0.0)
        size = max(1, min(MAX_BATCH, math.ceil(len(frames) / self._children)))
        batches = [frames[start : start + size] for start in range(0, len(frames), size)]
        running = [self._threads.submit(self._run, [frame for _, frame in batch], deadline) for batch in batches]
        for batch, future in zip(batches, running, strict=True):
            # Each step of a batch has its own deadline, so this one is for a mistake in this file.
            found = future.result(timeout=max(0.0, deadline - time.monotonic()) + 6 * HANDSHAKE_S)
            for (i, _), verdict in zip(batch, found, strict=True):
                verdicts[i] = verdict
        return cast(list[Verdict], verdicts)

    def close(self) -> None:
        """Ends all children, in the middle of their work if need be."""
        self._server.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _run(self, frames: list[bytes], deadline: float) -> list[Verdict]:
        child = self._places.get_nowait()
        verdicts: list[Verdict] = []
        try:
            while len(verdicts) < len(frames) and time.monotonic() < deadline:
                if child is None or not child.alive:
                    child = _Child(self._server)
                verdicts += child.verdicts(frames[len(verdicts) :], self._timeout_s, deadline)
            missing = len(frames) - len(verdicts)
            late = Verdict.failed(FailureKind.TIMEOUT, "not started within reward.deadline_s", 0.0)
            return verdicts + [late] * missing
        finally:
            self._places.put(child if child is not None and child.alive else None)
