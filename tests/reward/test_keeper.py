"""One attack per test: what a verifier may do to its child, and that the next request is judged all the same."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from reward.fork_server import ForkServerDied
from reward.keeper import Keeper
from reward.types import FailureKind
from reward.verifiers import UnknownVerifier, VerifierImportError
from tests.reward.math_settings import SETTINGS

HASTY_S = 1.0
PATIENT_S = 20.0


def make_keeper(names, children=1, timeout_s=PATIENT_S, recycle_after=1000):
    verifiers = {"math", *(f"faulty_verifiers:{name}" for name in names.split())}
    return Keeper(verifiers, SETTINGS, children, timeout_s, 128, recycle_after, 32, start_timeout_s=60.0)


@pytest.fixture(scope="module")
def keeper():
    """For verifiers that end by themselves, soon or late."""
    keeper = make_keeper(
        "echo leave leave_politely segfault killed killed_once hoard one_huge_block modest_block stumble no_gold "
        "too_good not_a_judgement processes keep_memory keep_file keep_thread keep_process whoami babble hang_up "
        "hang_up_and_return shout boast forge disturb state"
    )
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def hasty_keeper():
    """For those that never end."""
    keeper = make_keeper("echo hang hang_in_c nap spawn_grandchild desert", timeout_s=HASTY_S)
    yield keeper
    keeper.close()


def is_gone(pid, within_s=5.0):
    """Whether the process ends, or is only waiting to be reaped, in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("leave", FailureKind.CRASH, "exit code 3"),
        ("leave_politely", FailureKind.CRASH, "exit code"),
        ("segfault", FailureKind.CRASH, "SIGSEGV"),
        ("killed", FailureKind.MEMORY, "killed from outside"),
        ("hoard", FailureKind.MEMORY, "reward.memory_mb"),
        ("one_huge_block", FailureKind.MEMORY, "reward.memory_mb"),
        ("stumble", FailureKind.ERROR, "ZeroDivisionError: the verifier stumbled over it"),
        ("no_gold", FailureKind.BAD_REFERENCE, "gold is not what it should be"),
        ("too_good", FailureKind.ERROR, "1.5"),
        ("not_a_judgement", FailureKind.ERROR, "AttributeError"),
        ("hang_up", FailureKind.CRASH, "closed the connection"),
        ("hang_up_and_return", FailureKind.CRASH, "exit code 1"),
        ("shout", FailureKind.CRASH, "wrote into the connection of its child: b'hello'"),
        ("boast", FailureKind.CRASH, "wrote into the connection of its child: a message of 4294967295 bytes"),
    ],
)
def test_a_failure_has_its_kind_and_the_others_their_verdicts(keeper, request_for, name, kind, detail):
    before, failed, after = keeper.verify(
        [request_for("echo", "a", "a"), request_for(name), request_for("echo", "b", "a")], deadline_s=30.0
    )
    assert failed.failure is kind
    assert failed.score is None
    assert detail in failed.detail
    assert (before.score, after.score, after.answer, after.rule) == (1.0, 0.0, "b", "echo")


@pytest.mark.parametrize("name", ["hang", "hang_in_c", "desert"])
def test_a_hang_costs_its_timeout_and_little_more(hasty_keeper, request_for, name):
    began = time.monotonic()
    requests = [request_for("echo", "a", "a"), request_for(name), request_for("echo", "b", "a")]
    before, failed, after = hasty_keeper.verify(requests, deadline_s=30.0)
    assert HASTY_S <= time.monotonic() - began < HASTY_S + 4.0
    assert HASTY_S <= failed.seconds < HASTY_S + 2.0
    assert (failed.failure, failed.score) == (FailureKind.TIMEOUT, None)
    assert "reward.timeout_s" in failed.detail
    assert (before.score, after.score) == (1.0, 0.0)


def test_a_forged_report_is_not_taken_for_the_next_ones(keeper, request_for):
    names = ["forge", "echo", "echo", "echo"]
    verdicts = keeper.verify([request_for(name, "a", "a") for name in names], deadline_s=30.0)
    # Whoever shares a child with code that lies cannot tell its lie, but nobody else's verdict is moved by it.
    assert verdicts[1].failure is FailureKind.CRASH
    assert "the report of request 0 in the place of 1" in verdicts[1].detail
    assert [(verdict.score, verdict.rule) for verdict in verdicts[2:]] == [(1.0, "echo")] * 2
    alone = keeper.verify([request_for("forge")], deadline_s=30.0)
    after = keeper.verify([request_for("echo", "b", "b")], deadline_s=30.0)[0]
    assert (len(alone), after.answer) == (1, "b")


@pytest.mark.parametrize("name", ["keep_memory", "keep_file", "keep_thread", "keep_process"])
def test_what_cannot_be_put_back_ends_the_child_and_costs_no_verdict(keeper, request_for, name):
    requests = [request_for("whoami"), request_for(name), request_for(name), request_for("whoami")]
    verdicts = keeper.verify(requests, deadline_s=30.0)
    assert [verdict.score for verdict in verdicts] == [1.0] * 4
    first, second, third, fourth = (int(verdict.answer.split()[0]) for verdict in verdicts)
    assert first == second
    assert len({second, third, fourth}) == 3
    assert all(is_gone(int(pid)) for verdict in verdicts[1:3] for pid in verdict.answer.split())


def test_what_can_be_put_back_is(keeper, request_for):
    names = ["whoami", "state", "disturb", "state", "state", "whoami"]
    verdicts = keeper.verify([request_for(name) for name in names], deadline_s=30.0)
    answers = [verdict.answer for verdict in verdicts]
    assert answers[0] == answers[-1]
    assert answers[1] == answers[3] == answers[4]


def test_a_child_is_replaced_after_so_many_verifications(request_for):
    keeper = make_keeper("whoami stumble", recycle_after=3)
    verdicts = keeper.verify([request_for("stumble"), *[request_for("whoami")] * 8], deadline_s=30.0)
    pids = [verdict.answer for verdict in verdicts[1:]]
    assert pids[0] == pids[1] != pids[2] == pids[3] == pids[4] != pids[5] == pids[6] == pids[7]
    assert is_gone(int(pids[0]))
    keeper.close()


def test_the_clock_starts_with_the_execution_and_the_queue_has_its_own(hasty_keeper, request_for):
    verdicts = hasty_keeper.verify([request_for("nap", "0.4")] * 5, deadline_s=30.0)
    for place, verdict in enumerate(verdicts):
        assert 0.4 <= verdict.seconds < HASTY_S
        assert place * 0.4 <= verdict.queued_s < place * 0.4 + 1.0


def test_a_stream_is_taken_no_faster_than_it_is_judged(request_for):
    keeper = make_keeper("nap", children=2)
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield request_for("nap", "0.02")

    verdicts = keeper.stream(endless(), math.inf)
    for _ in range(65):
        next(verdicts)
    # Handed out, at work or next at both children, judged meanwhile by the other child, and the round being dealt out.
    assert 65 < len(taken) <= 65 + 16 * (2 * 2 + 2) + 32
    keeper.close()


def test_a_late_verdict_holds_back_no_more_than_the_window(request_for):
    keeper = make_keeper("echo nap", children=2)
    taken = []

    def late_first():
        for i in range(1000):
            taken.append(i)
            yield request_for("nap" if i == 0 else "echo", "1.0" if i == 0 else "x" * 100)

    verdicts = keeper.stream(late_first(), 100 * 200)
    next(verdicts)
    # The window, the batch that goes past it, and the round that was being dealt out.
    assert 200 <= len(taken) <= 200 + 16 + 32
    assert len(list(verdicts)) == 999
    keeper.close()


def test_the_timeout_is_of_one_verification_and_not_of_its_batch(hasty_keeper, request_for):
    verdicts = hasty_keeper.verify([request_for("nap", "0.3")] * 5, deadline_s=30.0)
    assert [verdict.score for verdict in verdicts] == [1.0] * 5
    assert all(0.3 <= verdict.seconds < HASTY_S for verdict in verdicts)


def test_the_deadline_of_the_whole_leaves_failures_and_not_zeros(request_for):
    keeper = make_keeper("echo hang")
    began = time.monotonic()
    verdicts = keeper.verify([request_for("echo", "a", "a"), request_for("hang"), request_for("echo")], deadline_s=0.5)
    assert time.monotonic() - began < 5.0
    assert verdicts[0].score == 1.0
    assert [verdict.failure for verdict in verdicts[1:]] == [FailureKind.TIMEOUT] * 2
    assert "not finished within reward.deadline_s" in verdicts[1].detail
    assert "not started within reward.deadline_s" in verdicts[2].detail
    keeper.close()


def test_the_limit_counts_what_comes_on_top_of_the_loaded_libraries(keeper, request_for):
    assert keeper.verify([request_for("modest_block")], deadline_s=30.0)[0].answer == str(112 << 20)


def test_order_is_kept_over_children_and_threads(request_for):
    keeper = make_keeper("echo", children=3)
    answers = {}

    def ask(caller):
        requests = [request_for("echo", f"{caller}-{i}", "") for i in range(100)]
        answers[caller] = [verdict.answer for verdict in keeper.verify(requests, deadline_s=30.0)]

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30.0)
    assert answers == {caller: [f"{caller}-{i}" for i in range(100)] for caller in range(4)}
    keeper.close()


def test_children_work_at_the_same_time(request_for):
    keeper = make_keeper("nap", children=4)
    began = time.monotonic()
    keeper.verify([request_for("nap", "1.0")] * 4, deadline_s=30.0)
    assert time.monotonic() - began < 3.0
    keeper.close()


def test_a_request_that_is_not_json_is_a_bad_reference(keeper, request_for):
    verdicts = keeper.verify([request_for("echo", gold={1, 2}), request_for("echo", "a", "a")], deadline_s=30.0)
    assert verdicts[0].failure is FailureKind.BAD_REFERENCE
    assert verdicts[1].score == 1.0


def test_large_and_strange_text_passes(keeper, request_for):
    text = "\x00\ud800é" * 700_000
    assert keeper.verify([request_for("echo", text, text)], deadline_s=30.0)[0].answer == text


def test_a_sum_that_sympy_never_finishes_is_killed(hasty_keeper, request_for):
    verdicts = hasty_keeper.verify(
        [
            request_for("math", r"\boxed{\sum_{n=1}^{10^{9}} \sin(\sin n)}", "7"),
            request_for("math", r"\boxed{7}", "7"),
        ],
        deadline_s=30.0,
    )
    assert verdicts[0].failure in (FailureKind.TIMEOUT, FailureKind.MEMORY)
    assert verdicts[1].score == 1.0


def test_nothing_to_do(keeper):
    assert keeper.verify([], deadline_s=1.0) == []


def test_a_child_that_died_idle_is_replaced_without_a_failure(keeper, request_for):
    pid = int(keeper.verify([request_for("processes")], deadline_s=30.0)[0].answer.split()[0])
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)
    assert keeper.verify([request_for("echo", "a", "a")], deadline_s=30.0)[0].score == 1.0


def test_a_request_whose_child_was_killed_from_outside_is_judged_once_more(keeper, request_for, tmp_path):
    requests = [
        request_for("echo", "a", "a"),
        request_for("killed_once", str(tmp_path / "once")),
        request_for("echo", "b", "a"),
    ]
    assert [verdict.score for verdict in keeper.verify(requests, deadline_s=30.0)] == [1.0, 1.0, 0.0]


def test_an_interrupt_of_the_terminal_is_ignored(keeper, request_for):
    ids = keeper.verify([request_for("processes")], deadline_s=30.0)[0].answer
    child, fork_server, _ = map(int, ids.split())
    os.kill(child, signal.SIGINT)
    os.kill(fork_server, signal.SIGINT)
    time.sleep(0.2)
    assert keeper.verify([request_for("processes")], deadline_s=30.0)[0].answer == ids


def test_what_a_verifier_started_dies_with_it(hasty_keeper, request_for, tmp_path):
    note = tmp_path / "pid"
    verdict = hasty_keeper.verify([request_for("spawn_grandchild", gold=str(note))], deadline_s=30.0)[0]
    assert verdict.failure is FailureKind.TIMEOUT
    assert is_gone(int(note.read_text()))


def test_close_in_the_middle_of_work_leaves_no_process(request_for, tmp_path):
    keeper = make_keeper("hang spawn_grandchild processes", children=2, timeout_s=60.0)
    ids = {int(pid) for v in keeper.verify([request_for("processes")] * 2, 30.0) for pid in v.answer.split()[:2]}
    assert len(ids) >= 2
    note = tmp_path / "pid"
    outcome = []

    def work():
        try:
            requests = [request_for("hang"), request_for("spawn_grandchild", gold=str(note))]
            outcome.append(keeper.verify(requests, deadline_s=60.0))
        except ForkServerDied as error:
            outcome.append(error)

    working = threading.Thread(target=work)
    working.start()
    deadline = time.monotonic() + 10.0
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    keeper.close()
    working.join(10.0)
    assert isinstance(outcome[0], ForkServerDied)
    assert all(is_gone(pid) for pid in {*ids, int(note.read_text())})


def test_a_fork_server_that_dies_takes_its_children_along_and_is_reported(request_for):
    keeper = make_keeper("processes hang")
    child, fork_server, _ = map(int, keeper.verify([request_for("processes")], 30.0)[0].answer.split())
    os.kill(fork_server, signal.SIGKILL)
    assert is_gone(child)
    with pytest.raises(ForkServerDied):
        keeper.verify([request_for("hang")], deadline_s=30.0)
    keeper.close()


def test_children_die_with_the_process_that_wanted_them():
    script = """
import os, signal, sys, threading, time
from reward.keeper import Keeper
from reward.types import VerificationRequest
names = [f"faulty_verifiers:{name}" for name in ("processes", "hang_in_c")]
keeper = Keeper(names, {}, 1, 60.0, 128, 1000, 32, 60.0)
ask = lambda name: keeper.verify([VerificationRequest(name, "", "", None, {})], 60.0)
print(ask(names[0])[0].answer, flush=True)
threading.Thread(target=ask, args=(names[1],), daemon=True).start()
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    search_path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": search_path},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert finished.returncode == -signal.SIGKILL
    child, fork_server, _ = map(int, finished.stdout.split())
    assert is_gone(child)
    assert is_gone(fork_server)


def test_a_verifier_that_cannot_be_loaded_is_named():
    with pytest.raises(VerifierImportError, match=r"no_such_module:f.*ModuleNotFoundError"):
        Keeper({"no_such_module:f"}, {}, 1, PATIENT_S, 128, 1000, 32, 60.0)
    with pytest.raises(VerifierImportError, match=r"faulty_verifiers:absent.*AttributeError"):
        Keeper({"faulty_verifiers:absent"}, {}, 1, PATIENT_S, 128, 1000, 32, 60.0)
    with pytest.raises(VerifierImportError, match=r"unknown verifier 'mahts'; known are .*math, "):
        Keeper({"mahts"}, {}, 1, PATIENT_S, 128, 1000, 32, 60.0)


def test_unknown_names_are_refused_by_name():
    from reward.verifiers import check_names

    check_names(["math", "reasoning_gym", "package.module:callable"])
    for name in ["mahts", "", "module:", ":callable", "a b:c"]:
        with pytest.raises(UnknownVerifier, match=r"known are .*math, "):
            check_names([name])
