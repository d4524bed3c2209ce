"""Jobs of a Ray cluster, seen from outside: start one, follow it to its end, say how it ended, stop it.

An answer that does not come is waited for at most a minute.
"""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from ray.dashboard.modules.job.common import JobInfo, JobStatus
from ray.dashboard.modules.job.sdk import JobSubmissionClient
from ray.exceptions import AuthenticationError

from launch.cluster import offer_token

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CONNECT_S = 10.0
REQUEST_S = 60.0
LOST_S = 60.0
STOP_S = 30.0
# Exit statuses.
REFUSED, FAILED, INTERRUPTED = 2, 1, 130
SIGNALLED = 128

Answer = TypeVar("Answer")


class SubmitError(Exception):
    """A job could not be submitted or followed. The message says why, and what to change."""


class Client(JobSubmissionClient):
    """Ray's, which by itself would wait for an answer forever."""

    def _do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        return super()._do_request(*arguments, timeout=REQUEST_S, **options)


def dashboard_url(address: str) -> str:
    """`address` with http:// in front where it has no scheme. Raises SubmitError for what is not a dashboard's."""
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or address == "auto":
        raise SubmitError(
            f"{address} is not the address of a dashboard, such as {DEFAULT_ADDRESS}: correct --address or RAY_ADDRESS"
        )
    return url.rstrip("/")


def connect(address: str) -> JobSubmissionClient:
    """A client of the dashboard at `address`. Raises SubmitError."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), CONNECT_S).close()
    except OSError as error:
        raise SubmitError(
            f"no Ray dashboard answers at {address} ({error.strerror or error}): start the cluster with its dashboard, "
            "or correct --address or RAY_ADDRESS"
        ) from error
    # Both would win over the address that was asked for.
    os.environ.pop("RAY_API_SERVER_ADDRESS", None)
    os.environ.pop("RAY_ADDRESS", None)
    offer_token(os.environ)
    try:
        return Client(address)
    except AuthenticationError as error:
        raise SubmitError(
            f"the cluster at {address} asks for a token, and none or another one was sent: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH to the file that holds the cluster's"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, requests.RequestException) as error:
        raise SubmitError(f"what answers at {address} is not Ray's dashboard: {first_line(error)}") from error


def new_id(name: str) -> str:
    """A submission ID no other job has, which begins with what can be kept of `name`."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)[:60]}_{secrets.token_hex(4)}"


def start(
    client: JobSubmissionClient, job: str, command: str, environment: dict[str, Any], metadata: Mapping[str, str]
) -> None:
    """Submit the shell command as the job of that submission ID. Raises SubmitError where the cluster refuses it."""

    def ask() -> None:
        try:
            client.submit_job(entrypoint=command, submission_id=job, runtime_env=environment, metadata=dict(metadata))
        except RuntimeError as error:
            # Where the first answer was lost on its way, the second is that there already is such a job.
            if not _is_known(client, job):
                raise SubmitError(f"the cluster did not take job {job}: {first_line(error)}") from error

    patiently(ask, f"job {job} was submitted")


def _is_known(client: JobSubmissionClient, job: str) -> bool:
    try:
        client.get_job_status(job)
    except RuntimeError as error:
        if "status code 404" in str(error):
            return False
        raise
    return True


def patiently(ask: Callable[[], Answer], meanwhile: str) -> Answer:
    """What `ask` returns, asked again while the connection is lost. Raises SubmitError after a minute of that."""
    since: float | None = None
    while True:
        try:
            return ask()
        except (RuntimeError, OSError, requests.RequestException) as error:
            since = time.monotonic() if since is None else since
            if time.monotonic() - since > LOST_S:
                raise SubmitError(f"the cluster was lost while {meanwhile}: {first_line(error)}") from error
            time.sleep(1.0)


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's output as it is written, until it ends; returns its exit status.

    A lost connection is tried again for a minute. Raises SubmitError after that; the job may go on.
    """
    shown, meanwhile = Shown(sys.stdout.write), f"job {job} ran"
    while True:
        # What is lost here is asked for again, and whether the cluster itself is lost shows below.
        with contextlib.suppress(RuntimeError, OSError, requests.RequestException):
            asyncio.run(shown.tail(client, job))
        info = patiently(lambda: client.get_job_info(job), meanwhile)
        if info.status.is_terminal():
            # What was written between the last look and the end.
            shown.all(log_of(client, job))
            status = exit_status(info.status, info.driver_exit_code)
            if status:
                print(f"job {job} {ending(info)}", file=sys.stderr)
            return status
        time.sleep(0.5)


def log_of(client: JobSubmissionClient, job: str) -> str:
    """The whole output of the job; "" where the node that holds it is gone."""
    try:
        return patiently(lambda: client.get_job_logs(job), f"the output of job {job} was read")
    except SubmitError:
        return ""


class Shown:
    """How much of a job's output has been printed: every new connection starts again at its beginning."""

    def __init__(self, write: Callable[[str], Any]):
        self._write, self._count = write, 0

    def all(self, text: str) -> None:
        """Print what is new in `text`, the whole output so far."""
        self._write(text[self._count :])
        sys.stdout.flush()
        self._count = max(self._count, len(text))

    async def tail(self, client: JobSubmissionClient, job: str) -> None:
        """Print what is new until the connection ends."""
        seen = 0
        async for text in client.tail_job_logs(job):
            seen += len(text)
            if seen > self._count:
                self._write(text[self._count - seen :])
                sys.stdout.flush()
                self._count = seen


def exit_status(status: str, code: int | None) -> int:
    """The exit status for a job that ended: its own code; 128 + n for signal n, as a shell has it."""
    if status == JobStatus.SUCCEEDED:
        return 0
    if code is None:
        return FAILED
    return SIGNALLED - code if code < 0 else code or FAILED


def killed(info: JobInfo) -> str:
    """Who ended the job from outside, such as "was killed by SIGKILL"; "" where it ended by itself."""
    if info.status == JobStatus.STOPPED:
        return "was stopped from outside, by ray job stop or its like"
    number = exit_status(info.status, info.driver_exit_code) - SIGNALLED
    if number not in {each.value for each in signal.Signals}:
        return ""
    reason = ", by somebody or for lack of memory" if number == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(number).name}{reason}"


def ending(info: JobInfo) -> str:
    """How a job ended that did not succeed: the sentence after its name."""
    # The message of a command that failed repeats the log.
    message = (info.message or "").partition(", last available logs")[0].strip()
    return killed(info) or f"{info.status.value.lower()}: {message}"


def stop(client: JobSubmissionClient, jobs: Iterable[str]) -> None:
    """Stop the jobs and wait until all have ended. Raises SubmitError where one has not after half a minute."""
    left = [job for job in jobs if patiently(partial(_is_known, client, job), f"job {job} was stopped")]
    for job in left:
        print(f"stopping job {job}", flush=True)
        patiently(partial(client.stop_job, job), f"job {job} was stopped")
    deadline = time.monotonic() + STOP_S
    while left := [job for job in left if not _has_ended(client, job)]:
        if time.monotonic() > deadline:
            raise SubmitError(f"{', '.join(left)} did not stop within {STOP_S:g} s; try ray job stop {left[0]}")
        time.sleep(0.5)


def _has_ended(client: JobSubmissionClient, job: str) -> bool:
    return patiently(partial(client.get_job_status, job), f"job {job} was stopped").is_terminal()


def first_line(error: BaseException | str) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
