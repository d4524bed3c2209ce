"""What runs inside a verifier child: one verification at a time, on the main thread, until it is killed.

Protects from: endless loops, in Python or in C (the parent kills at the deadline), exits and segmentation faults (the
parent sees the end of the process), memory (a limit on data), a parent that died (the kernel kills the child), Ctrl-C.
Does not protect from: code that means harm. A child has the rights and the network of its user.
"""

import ctypes
import json
import os
import resource
import signal
import time
from collections.abc import Mapping

from reward.types import BadReference, FailureKind, Verdict, VerificationRequest, Verifier
from reward.wire import Channel, Closed

STARTED = b"started"
MAX_DETAIL = 500  # characters of an exception's text

_PR_SET_PDEATHSIG = 1


def encode(message: VerificationRequest | Verdict) -> bytes:
    """JSON of a request or a verdict. Raises `TypeError` or `ValueError` for values JSON does not have."""
    return json.dumps(vars(message)).encode()


def decode_verdict(payload: bytes) -> Verdict:
    fields = json.loads(payload)
    failure = fields.pop("failure")
    return Verdict(failure=None if failure is None else FailureKind(failure), **fields)


def confine(parent_pid: int, memory_bytes: int) -> None:
    """Ties this process to its parent and limits its memory to what it holds now plus `memory_bytes`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm") as statm:
        held_bytes = int(statm.read().split()[5]) * resource.getpagesize()
    limit = held_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def serve(channel: Channel, verifiers: Mapping[str, Verifier]) -> None:
    """Answers batches of requests until the far end closes, or until memory ran out once.

    In: a JSON list of requests. Out: `STARTED`, then one verdict for each, in order and as soon as it is there, so that
    the arrival of one tells the parent when the next was started.
    """
    while True:
        try:
            requests = json.loads(channel.receive(deadline=None))
            channel.send(STARTED, deadline=None)
            for request in requests:
                verdict = judge(VerificationRequest(**request), verifiers)
                channel.send(encode(verdict), deadline=None)
                if verdict.failure is FailureKind.MEMORY:
                    return  # whatever the verifier left behind is not worth a second try
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
