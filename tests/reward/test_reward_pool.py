"""The pool in a real Ray."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest

from reward.pool import RewardPool, shares
from reward.types import FailureKind
from reward.verifiers import UnknownVerifier, VerifierImportError
from tests.composed import compose

NAMES = ["echo", "hang", "leave", "stumble", "processes", "kill_worker", "kill_worker_once"]
VERIFIERS = {"instructions", "math", *(f"faulty_verifiers:{name}" for name in NAMES)}


def config(**changes):
    settings = {
        "workers": 2,
        "children_per_worker": 2,
        "timeout_s": 1.0,
        "memory_mb": 256,
        "recycle_after": 1000,
        "recycle_growth_mb": 64,
        "max_failure_share": 0.5,
        "deadline_s": 120.0,
    }
    return replace(compose([]).reward, **{**settings, **changes})


pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def pool(ray_session):
    with RewardPool(config(), VERIFIERS) as pool:
        pool.wait_ready()
        yield pool


def all_gone(pids, within_s=10.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        alive = [pid for pid in pids if psutil.pid_exists(pid)]
        if all(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in alive):
            return True
        time.sleep(0.05)
    return False


def test_verdicts_come_in_the_order_of_the_requests(pool, request_for):
    requests = [request_for("echo", str(i), str(i - i % 2)) for i in range(101)]
    verdicts = pool.verify(requests)
    assert [verdict.answer for verdict in verdicts] == [str(i) for i in range(101)]
    assert [verdict.score for verdict in verdicts] == [1.0 - i % 2 for i in range(101)]


def test_a_large_step_goes_in_many_calls(pool, request_for):
    verdicts = pool.verify([request_for("echo", str(i), str(i)) for i in range(2000)])
    assert [verdict.answer for verdict in verdicts] == [str(i) for i in range(2000)]
    assert max(verdict.queued_s for verdict in verdicts) > min(verdict.queued_s for verdict in verdicts) >= 0.0


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (5, [3, 2]), (20, [10, 10]), (21, [6, 5, 5, 5])])
def test_shares_are_equal_and_no_longer_than_allowed(count, sizes):
    dealt = shares(count, workers=2, longest=10)
    assert [len(share) for share in dealt] == sizes
    assert sorted(i for share in dealt for i in share) == list(range(count))
    assert all(later - earlier == len(sizes) for share in dealt for earlier, later in itertools.pairwise(share))


def test_instructions_in_a_worker(pool, request_for):
    """The libraries behind them load in the fork server, and bad input costs its own verdict at most."""
    gold = {
        "instruction_id_list": ["language:response_language", "length_constraints:number_sentences"],
        "kwargs": [{"language": "en"}, {"num_sentences": 2, "relation": "at least"}],
    }
    responses = [
        "They went there. Nobody should worry.",
        "[" * 1_000_000,
        "\x00\ud800" * 9,
        "",
        "They went there. Yes.",
    ]
    verdicts = pool.verify([request_for("instructions", response, gold) for response in responses])
    large = verdicts.pop(1)
    assert large.score == 0.0 or large.failure is FailureKind.TIMEOUT
    assert [verdict.score for verdict in verdicts] == [1.0, 0.0, 0.0, 1.0]
    [verdict] = pool.verify([request_for("instructions", "x", {**gold, "kwargs": [{}, {}]})])
    assert (verdict.score, verdict.failure) == (None, FailureKind.BAD_REFERENCE)


def test_few_requests_and_none(pool, request_for):
    assert pool.verify([]) == []
    assert pool.verify([request_for("math", "#### 7", "7")])[0].score == 1.0


def test_failures_keep_their_kind_and_their_place(pool, request_for):
    kinds = ["echo", "hang", "leave", "stumble", "echo", "leave", "echo"]
    verdicts = pool.verify([request_for(kind, "a", "a") for kind in kinds])
    expected = {"hang": FailureKind.TIMEOUT, "leave": FailureKind.CRASH, "stumble": FailureKind.ERROR}
    assert [verdict.failure for verdict in verdicts] == [expected.get(kind) for kind in kinds]
    assert [verdict.score for verdict in verdicts] == [1.0 if kind == "echo" else None for kind in kinds]


def test_groups_may_be_judged_from_several_threads(pool, request_for):
    def judge(group):
        requests = [request_for("echo", f"{group}-{i}", f"{group}-{i}") for i in range(8)]
        return pool.verify([*requests, request_for("stumble")])

    with ThreadPoolExecutor(6) as threads:
        groups = list(threads.map(judge, range(24), timeout=60))
    for group, verdicts in enumerate(groups):
        assert [verdict.answer for verdict in verdicts[:8]] == [f"{group}-{i}" for i in range(8)]
        assert verdicts[8].failure is FailureKind.ERROR


def test_a_worker_that_dies_is_replaced_and_asked_again(pool, request_for, tmp_path):
    once = request_for("kill_worker_once", gold=str(tmp_path / "done"))
    verdicts = pool.verify([request_for("echo", "a", "a"), once, request_for("echo", "b", "b")])
    assert [verdict.score for verdict in verdicts] == [1.0] * 3
    assert verdicts[1].answer == "second time"


def test_a_request_that_kills_its_worker_twice_is_a_crash(pool, request_for):
    requests = [request_for("echo", "a", "a")] * 12
    requests[5] = request_for("kill_worker")
    verdicts = pool.verify(requests)
    assert "lost twice" in verdicts[5].detail
    expected = [FailureKind.CRASH if i == 5 else None for i in range(12)]
    assert [verdict.failure for verdict in verdicts] == expected
    assert pool.verify([request_for("echo", "a", "a")] * 4)[3].score == 1.0


def test_a_deadline_that_passes_is_a_timeout(request_for):
    with RewardPool(config(workers=1, timeout_s=60.0, deadline_s=1.0), VERIFIERS) as pool:
        pool.wait_ready()
        began = time.monotonic()
        verdicts = pool.verify([request_for("echo", "a", "a"), request_for("hang"), request_for("hang")])
    assert time.monotonic() - began < 10.0
    assert [verdict.failure for verdict in verdicts] == [None, FailureKind.TIMEOUT, FailureKind.TIMEOUT]


def test_close_leaves_no_process(request_for):
    pool = RewardPool(config(), VERIFIERS)
    verdicts = pool.verify([request_for("processes")] * 64)
    pids = {int(pid) for verdict in verdicts for pid in verdict.answer.split()}
    assert len(pids) >= 2 * 3  # two workers, each with its fork server and at least one child
    assert all(psutil.pid_exists(pid) for pid in pids)
    pool.close()
    assert all_gone(pids)
    with pytest.raises(RuntimeError, match="closed"):
        pool.verify([request_for("echo")])


def test_unknown_verifiers_are_refused_before_anything_starts(pool, request_for):
    with pytest.raises(UnknownVerifier, match=r"'mahts'; known are .*math, reasoning_gym"):
        RewardPool(config(), {"mahts"})
    with pytest.raises(UnknownVerifier, match=r"made for .*math, not for 'faulty_verifiers:segfault'"):
        pool.verify([request_for("segfault")])


def test_a_verifier_that_cannot_be_loaded_is_an_error_at_the_start():
    with (
        RewardPool(config(workers=1), {"no_such_module:f"}) as pool,
        pytest.raises(VerifierImportError, match="no_such_module:f"),
    ):
        pool.wait_ready()
