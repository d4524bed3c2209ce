"""Verdicts of a server: one POST of JSON for each response.

Sent:     {"prompt": str, "response": str, "gold": ..., "metadata": {...}}
Answered: {"score": number in [0, 1], "answer": str or null, "rule": str, "detail": str}, all but `score` optional; or
          {"failure": str} for a response that the server cannot judge.

Only an answer with a score is a verdict. Everything else raises, and so becomes a failure that is counted: a status
other than 200, text that is no such JSON, a server that cannot be reached. Lost connections and the statuses of
`RETRIED` are tried again after a growing pause, or after what Retry-After says, as long as `remote.timeout_s` lasts.
Redirects are not followed and proxies of the environment not used, so that a token goes to `remote.url` alone.
"""

import asyncio
import fcntl
import json
import mmap
import os
import random
import struct
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from reward.config import RemoteConfig
from reward.types import Judgement, VerificationRequest, Verifier

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
FIRST_PAUSE_S = 0.1  # doubled before every further attempt
MAX_REPLY_BYTES = 1 << 20
SHOWN = 200  # characters of a reply that a failure quotes

_TIME = struct.Struct("d")


class RemoteFailure(RuntimeError):
    """The server gave no verdict."""


def make(settings: Mapping[str, Any]) -> Verifier:
    """Raises `ValueError` where there is no URL, or no value for the variable that should hold the token."""
    return Remote(RemoteConfig(**settings["remote"]))


class Remote:
    """The verifier. Copies of it in forked processes keep one pace together."""

    def __init__(self, config: RemoteConfig):
        if config.url is None:
            raise ValueError("the verifier remote needs reward.remote.url")
        self._url = config.url
        self._config = config
        self._headers = {"Content-Type": "application/json"}
        if config.token_variable is not None:
            if not (token := os.environ.get(config.token_variable)):
                raise ValueError(
                    f"reward.remote.token_variable names {config.token_variable}, which the environment lacks"
                )
            self._headers["Authorization"] = f"Bearer {token}"
        self._pace = Pace(config.requests_per_s)

    def __call__(self, request: VerificationRequest) -> Judgement:
        """Raises `RemoteFailure`, and `TimeoutError` after `remote.timeout_s`."""
        fields = {name: value for name, value in vars(request).items() if name != "verifier"}
        return asyncio.run(self._judge(json.dumps(fields).encode()))

    async def _judge(self, body: bytes) -> Judgement:
        last = "no attempt was made"
        try:
            async with asyncio.timeout(self._config.timeout_s), aiohttp.ClientSession(trust_env=False) as session:
                for attempt in range(self._config.attempts):
                    await asyncio.sleep(self._pace.wait_s())
                    pause_s = FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0)
                    try:
                        status, headers, reply = await self._post(session, body)
                    except (aiohttp.ClientError, OSError) as error:
                        last = f"{type(error).__name__}: {error}"
                    else:
                        if status == 200:
                            return judgement_of(reply)
                        last = f"status {status}: {reply[:SHOWN].decode(errors='replace')!r}"
                        if status not in RETRIED:
                            break
                        pause_s = max(pause_s, retry_after_s(headers.get("Retry-After"), time.time()))
                    if attempt + 1 < self._config.attempts:
                        await asyncio.sleep(pause_s)
        except TimeoutError as error:
            raise TimeoutError(
                f"no verdict from reward.remote.url within reward.remote.timeout_s = {self._config.timeout_s:g}; "
                f"last: {last}"
            ) from error
        raise RemoteFailure(f"no verdict from reward.remote.url after {attempt + 1} attempts; last: {last}")

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        async with session.post(self._url, data=body, headers=self._headers, allow_redirects=False) as response:
            reply = bytearray()
            async for chunk in response.content.iter_any():
                reply += chunk
                if len(reply) > MAX_REPLY_BYTES:
                    raise RemoteFailure(f"the reply is longer than {MAX_REPLY_BYTES} bytes")
            return response.status, response.headers, bytes(reply)


class Pace:
    """Hands out starting times `1 / per_s` seconds apart, to this process and all that are forked from it."""

    def __init__(self, per_s: float | None):
        self._interval_s = 0.0 if per_s is None else 1.0 / per_s
        # A lock of the kernel's, which it releases where its holder is killed; and memory that a fork shares.
        self._lock = os.memfd_create("remote-pace")
        self._next = mmap.mmap(-1, _TIME.size)

    def wait_s(self) -> float:
        """Seconds until the caller's turn, which is taken with this call."""
        if not self._interval_s:
            return 0.0
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            now = time.monotonic()
            turn = max(now, _TIME.unpack_from(self._next)[0])
            _TIME.pack_into(self._next, 0, turn + self._interval_s)
            return turn - now
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


def judgement_of(reply: bytes) -> Judgement:
    """The judgement in the text of a reply. Raises `RemoteFailure`."""
    try:
        fields = json.loads(reply)
    except (ValueError, RecursionError) as error:
        raise RemoteFailure(f"the reply is not JSON: {reply[:SHOWN]!r}") from error
    if not isinstance(fields, dict):
        raise RemoteFailure(f"the reply is not a JSON object: {reply[:SHOWN]!r}")
    if "failure" in fields:
        raise RemoteFailure(f"the server could not judge: {str(fields['failure'])[:SHOWN]}")
    score, answer = fields.get("score"), fields.get("answer", "")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0.0 <= score <= 1.0:
        raise RemoteFailure(f"the reply has no score in [0, 1]: {reply[:SHOWN]!r}")
    if not isinstance(answer, str | None):
        raise RemoteFailure(f"the answer in the reply is neither text nor null: {reply[:SHOWN]!r}")
    return Judgement(float(score), answer, str(fields.get("rule", "")), str(fields.get("detail", "")))


def retry_after_s(header: str | None, now_s: float) -> float:
    """Seconds that a Retry-After asks for, as a number or a date (RFC 9110, 10.2.3); 0 where it says neither."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s)
    except (TypeError, ValueError):
        return 0.0
