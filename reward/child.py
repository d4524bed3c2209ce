"""What runs inside a verifier child: one verification at a time, on the main thread, until it is killed.

Protects from: endless loops, in Python or in C (the parent kills at the deadline), exits and segmentation faults (the
parent sees the end of the process), memory (a limit on data), a parent that died (the kernel kills the child), Ctrl-C,
what a verification leaves behind (`reward.hygiene`).
Does not protect from: code that means harm. A child has the rights and the network of its user.
"""

import ctypes
import json
import os
import resource
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from reward.hygiene import CleanState, data_bytes
from reward.types import BadReference, FailureKind, Verdict, VerificationRequest, Verifier
from reward.wire import Channel, Closed

STARTED = b"started"
MAX_DETAIL = 500  # characters of an exception's text

_PR_SET_PDEATHSIG = 1


class NoReport(ValueError):
    """A child wrote something else than the report it owed."""


@dataclass(frozen=True)
class Report:
    """What a child sends after each verification.

    index  place of the request in its batch
    spent  why this child should judge no more, "" where it may
    """

    index: int
    verdict: Verdict
    spent: str


def encode(message: VerificationRequest | Verdict) -> bytes:
    """JSON of a request or a verdict. Raises `TypeError` or `ValueError` for values JSON does not have."""
    return json.dumps(vars(message)).encode()


def encode_report(report: Report) -> bytes:
    return json.dumps(vars(report) | {"verdict": vars(report.verdict)}).encode()


def decode_report(payload: bytes) -> Report:
    """Raises `NoReport` for what `encode_report` did not write."""
    try:
        fields = json.loads(payload)
        verdict = fields.pop("verdict")
        failure = verdict.pop("failure")
        return Report(verdict=Verdict(failure=None if failure is None else FailureKind(failure), **verdict), **fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NoReport(f"{payload[:80]!r}") from error


def confine(parent_pid: int, memory_bytes: int) -> None:
    """Ties this process to its parent and limits its memory to what it holds now plus `memory_bytes`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = data_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def serve(channel: Channel, verifiers: Mapping[str, Verifier], growth_bytes: int) -> None:
    """Answers batches of requests until the far end closes, or until a verification has left something behind.

    In: a JSON list of requests. Out: `STARTED`, then one report for each, in order and as soon as it is there, so that
    the arrival of one tells the parent when the next was started.
    """
    clean = CleanState(growth_bytes)
    while True:
        try:
            requests = json.loads(channel.receive(deadline=None))
            channel.send(STARTED, deadline=None)
            for index, request in enumerate(requests):
                verdict = judge(VerificationRequest(**request), verifiers)
                clean.restore()
                # After memory ran out, whatever the verifier left behind is not worth a second try.
                spent = "memory ran out" if verdict.failure is FailureKind.MEMORY else clean.leftovers()
                channel.send(encode_report(Report(index, verdict, spent)), deadline=None)
                if spent:
                    return
        except Closed:
            return


def judge(request: VerificationRequest, verifiers: Mapping[str, Verifier]) -> Verdict:
    """Runs one verifier and classifies what it does.

    A verifier that swallows `MemoryError` itself hides that failure from us.
    """
    began = time.perf_counter()

    def elapsed() -> float:
        return time.perf_counter() - began

    try:
        judgement = verifiers[request.verifier](request)
        return Verdict(
            score=float(judgement.score),
            failure=None,
            answer=judgement.answer,
            rule=judgement.rule,
            detail=judgement.detail,
            seconds=elapsed(),
        )
    except MemoryError:
        return Verdict.failed(FailureKind.MEMORY, "the verifier ran into reward.memory_mb", elapsed())
    except TimeoutError as error:  # of a verifier that keeps a limit of its own
        return Verdict.failed(FailureKind.TIMEOUT, str(error)[:MAX_DETAIL], elapsed())
    except BadReference as error:
        return Verdict.failed(FailureKind.BAD_REFERENCE, str(error)[:MAX_DETAIL], elapsed())
    except Exception as error:  # noqa: BLE001 -- any other exception is the verifier's, and is counted as such
        return Verdict.failed(FailureKind.ERROR, f"{type(error).__name__}: {error}"[:MAX_DETAIL], elapsed())
