"""Against a real server on this machine that is slow, refuses, sends garbage or hangs up: never a zero."""

import os
import socket
import time
from email.utils import formatdate

import pytest
from judging_server import drip, endless, hang_up, hang_up_half_way, reply, serving, silence, verdict

from reward.config import RemoteConfig
from reward.keeper import Keeper
from reward.types import FailureKind, VerificationRequest
from reward.verifiers import VerifierImportError, load
from reward.verifiers.remote import MAX_REPLY_BYTES, Pace, Remote, RemoteFailure, judgement_of, retry_after_s

GOLD = {"answer": "72", "unit": None}
REQUEST = VerificationRequest("remote", "What is 70 + 2?", "72 \ud800\u00e9", GOLD, {"row": 3})


def settings(url, timeout_s=2.0, attempts=3, requests_per_s=None, token_variable=None):
    return {
        "url": url,
        "timeout_s": timeout_s,
        "attempts": attempts,
        "requests_per_s": requests_per_s,
        "token_variable": token_variable,
    }


def judge(server, **changes):
    return Remote(RemoteConfig(**settings(server.url, **changes)))(REQUEST)


def test_a_verdict():
    with serving(verdict(0.5, answer="72", rule="exam", detail="half right")) as server:
        judgement = judge(server)
        assert (judgement.score, judgement.answer, judgement.rule, judgement.detail) == (
            0.5,
            "72",
            "exam",
            "half right",
        )
    [(headers, body)] = server.received
    assert body == {"prompt": "What is 70 + 2?", "response": "72 \ud800\u00e9", "gold": GOLD, "metadata": {"row": 3}}
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_tried_again(status):
    with serving(reply(status, "busy"), verdict(1.0)) as server:
        assert judge(server).score == 1.0
    assert len(server.received) == 2


@pytest.mark.parametrize("lost", [hang_up, hang_up_half_way])
def test_a_lost_connection_is_tried_again(lost):
    with serving(lost, verdict(1.0)) as server:
        assert judge(server).score == 1.0
    assert len(server.received) == 2


def test_pauses_grow():
    with serving(reply(503, "busy")) as server:
        began = time.monotonic()
        with pytest.raises(RemoteFailure, match="after 4 attempts; last: status 503: 'busy'"):
            judge(server, attempts=4)
        # At least half of 0.1, 0.2 and 0.4 s, and none after the last attempt.
        assert 0.35 <= time.monotonic() - began < 1.5
    assert len(server.received) == 4


def test_retry_after_is_heeded():
    with serving(reply(429, "slow down", Retry_After="0.6"), verdict(1.0)) as server:
        began = time.monotonic()
        assert judge(server).score == 1.0
        assert time.monotonic() - began >= 0.6


def test_retry_after_as_seconds_or_date():
    assert retry_after_s("7", 0.0) == 7.0
    assert retry_after_s(formatdate(1_000_060, usegmt=True), 1_000_000.0) == 60.0
    assert retry_after_s(formatdate(999_000, usegmt=True), 1_000_000.0) == 0.0
    assert [retry_after_s(text, 0.0) for text in (None, "-1", "soon", "", "nan")] == [0.0] * 5


def test_a_server_that_asks_for_more_patience_than_there_is():
    with serving(reply(429, "slow down", Retry_After="3600")) as server:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"reward.remote.timeout_s = 0.5; last: status 429: 'slow down'"):
            judge(server, timeout_s=0.5)
        assert time.monotonic() - began < 2.0
    assert len(server.received) == 1


@pytest.mark.parametrize("slow", [silence, drip])
def test_the_timeout_is_a_total(slow):
    with serving(slow) as server:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no verdict from reward\.remote\.url within"):
            judge(server, timeout_s=0.5)
        assert time.monotonic() - began < 2.0
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply(404, "not here"), "after 1 attempts; last: status 404: 'not here'"),
        (reply(401, ""), "status 401"),
        (reply(302, "", Location="http://127.0.0.1:1/"), "status 302"),
        (reply(200, "score: 1"), "not JSON"),
        (reply(200, b"\xff\xfe\x00"), "not JSON"),
        (reply(200, ""), "not JSON"),
        (reply(200, "[" * 100_000), "not JSON"),
        (reply(200, "[1]"), "not a JSON object"),
        (reply(200, "{}"), "no score"),
        (reply(200, '{"score": null}'), "no score"),
        (reply(200, '{"score": "1"}'), "no score"),
        (reply(200, '{"score": true}'), "no score"),
        (reply(200, '{"score": 1.5}'), "no score"),
        (reply(200, '{"score": -1}'), "no score"),
        (reply(200, '{"score": NaN}'), "no score"),
        (reply(200, '{"score": 1, "answer": 72}'), "neither text nor null"),
        (reply(200, '{"failure": "no such problem"}'), "could not judge: no such problem"),
        (endless, f"longer than {MAX_REPLY_BYTES} bytes"),
    ],
)
def test_everything_else_is_a_failure_at_once_and_no_zero(answer, message):
    with serving(answer) as server, pytest.raises(RemoteFailure) as caught:
        judge(server)
    assert message in str(caught.value)
    assert len(server.received) == 1


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(RemoteFailure, match="after 2 attempts; last: ClientConnectorError"):
        Remote(RemoteConfig(**settings(url, attempts=2)))(REQUEST)


def test_an_answer_that_was_not_found_is_not_one_that_was_not_named():
    assert judgement_of(b'{"score": 0, "answer": null}').answer is None
    assert judgement_of(b'{"score": 0}').answer == ""


def test_the_token_comes_from_the_environment_and_is_in_no_message(monkeypatch):
    monkeypatch.setenv("JUDGE_TOKEN", "open-sesame")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    with serving(reply(403, "no")) as server, pytest.raises(RemoteFailure) as caught:
        judge(server, token_variable="JUDGE_TOKEN")
    assert server.received[0][0]["Authorization"] == "Bearer open-sesame"
    assert "sesame" not in str(caught.value)
    monkeypatch.delenv("JUDGE_TOKEN")
    with pytest.raises(VerifierImportError, match=r"token_variable names JUDGE_TOKEN, which the environment lacks"):
        load("remote", {"remote": settings(server.url, token_variable="JUDGE_TOKEN")})


def test_without_a_url_there_is_no_verifier():
    with pytest.raises(VerifierImportError, match=r"needs reward\.remote\.url"):
        load("remote", {"remote": settings(None)})


def test_forked_processes_keep_one_pace():
    """The k-th turn of three processes together is no earlier than k twentieths of a second."""
    pace, (read, write) = Pace(per_s=20.0), os.pipe()
    began = time.monotonic()
    children = []
    for _ in range(3):
        if (pid := os.fork()) == 0:
            for _ in range(4):
                time.sleep(pace.wait_s())
                os.write(write, b"%.6f\n" % (time.monotonic() - began))
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    turns = sorted(map(float, os.read(read, 4096).split()))
    assert len(turns) == 12
    assert all(turn >= 0.05 * k for k, turn in enumerate(turns))
    for end in (read, write):
        os.close(end)


def test_without_a_limit_nobody_waits():
    assert [Pace(None).wait_s() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_the_rate_is_kept():
    with serving(verdict(1.0)) as server:
        remote = Remote(RemoteConfig(**settings(server.url, requests_per_s=10.0)))
        began = time.monotonic()
        assert [remote(REQUEST).score for _ in range(5)] == [1.0] * 5
        assert time.monotonic() - began >= 0.4


def test_in_a_child_as_training_runs_it():
    script = (verdict(1.0), reply(200, "garbage"), silence, reply(404, ""), verdict(0.0, answer=None), verdict(0.25))
    with serving(*script) as server:
        keeper = Keeper(["remote"], {"remote": settings(server.url, timeout_s=0.5)}, 1, 5.0, 512, 1000, 512, 60.0)
        try:
            verdicts = keeper.verify([REQUEST] * 6, deadline_s=30.0)
        finally:
            keeper.close()
    assert [v.score for v in verdicts] == [1.0, None, None, None, 0.0, 0.25]
    assert [v.failure for v in verdicts[1:4]] == [FailureKind.ERROR, FailureKind.TIMEOUT, FailureKind.ERROR]
    assert "reward.remote.timeout_s" in verdicts[2].detail
    assert "status 404" in verdicts[3].detail
