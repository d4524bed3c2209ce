"""Groups drawn and judged by the real collector, with engines that break on order and verdicts that come on order."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from rollout.collector import Collector
from rollout.failures import NoProgress, NoSignal, PromptsExhausted, RolloutFailed
from rollout.groups import Judged
from rollout.seeds import request_seed
from rollout.stream import GroupStream
from tests.rollout.fake_engines import FakeEngines, prompt
from tests.rollout.test_stream import Source

SAMPLES = 3


def keep_all(prompts, groups) -> list[Judged]:
    return [Judged(None, None, right=1, judged=SAMPLES) for _ in groups]


@pytest.fixture
def made(request):
    """Makes collectors, and closes them."""
    opened: list[Collector] = []

    def make(
        engines,
        judge=keep_all,
        in_flight=False,
        max_staleness=0,
        batches=99,
        max_rounds=9,
        source=None,
        deadline_s=30.0,
    ) -> Collector:
        stream = GroupStream(4, max_staleness, batches, not in_flight, True, max_rounds, 1, source or Source(4))
        collector = Collector(engines, stream, prompt, SAMPLES, 7, judge, in_flight, 0, deadline_s)
        opened.append(collector)
        collector.start()
        return collector

    yield make
    for collector in opened:
        collector.close()


def batch(collector: Collector):
    while True:
        collector.wait_drawn()
        if found := collector.wait_judged():
            return found


def uids(found) -> list[str]:
    return [group.issue.uid for group in found.groups]


def until(condition, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def in_the_background(action) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def test_synchronously_the_prompts_of_a_step_come_in_order_with_the_seeds_of_the_step(made):
    engines = FakeEngines(2)
    collector = made(engines)
    for step in (1, 2):
        found = batch(collector)
        assert uids(found) == [str(4 * step - 4 + i) for i in range(4)]
        for group in found.groups:
            uid, drawn = group.issue.uid, group.payload
            assert drawn.prompt.uid == uid
            assert [(r.uid, r.sample) for r in drawn.responses] == [(uid, sample) for sample in range(SAMPLES)]
            seeds = [request_seed(7, step, uid, sample) % 1000 for sample in range(SAMPLES)]
            assert [int(r.token_ids[0]) for r in drawn.responses] == seeds
        # Nothing is drawn beyond the step until the next one is asked for.
        assert len(engines.submitted) == step * 4 * SAMPLES
        with collector.weights_change(step):
            engines.update(step)
        assert len(engines.submitted) == step * 4 * SAMPLES
    assert [sum(e == engine for e, *_ in engines.submitted) for engine in (0, 1)] == [12, 12]


def test_one_step_off_the_next_batch_is_drawn_while_the_learner_trains_and_before_weights_change(made):
    engines = FakeEngines(2, eager=False)
    collector = made(engines, max_staleness=1)
    in_the_background(lambda: (until(lambda: engines.has(0)), engines.draw(0), engines.draw(1)))
    assert uids(batch(collector)) == ["0", "1", "2", "3"]
    until(lambda: engines.has(0) + engines.has(1) == 4 * SAMPLES)
    changed: list[int] = []

    def change():
        with collector.weights_change(1):
            changed.append(engines.has(0) + engines.has(1))
            engines.update(1)

    changing = in_the_background(change)
    time.sleep(0.2)
    assert not changed
    engines.draw(0)
    engines.draw(1)
    changing.join(20)
    assert changed == [0]
    found = batch(collector)
    assert uids(found) == ["4", "5", "6", "7"]
    assert {group.oldest for group in found.groups} == {0}
    assert found.version == 1


def test_asynchronously_weights_change_in_the_middle(made):
    engines = FakeEngines(2, eager=False)
    collector = made(engines, in_flight=True, max_staleness=1)
    # Two batches may be under way before the first is asked for.
    until(lambda: engines.has(0) + engines.has(1) == 8 * SAMPLES)
    engines.draw(0, keep=2)
    engines.draw(1, keep=2)
    batch(collector)
    with collector.weights_change(1):
        engines.update(1)
    until(lambda: engines.has(0) + engines.has(1) == 4 + 4 * SAMPLES)
    engines.draw(0)
    engines.draw(1)
    found = batch(collector)
    spans = [response.versions for group in found.groups for response in group.payload.responses]
    assert any(len(of_one) == 2 for of_one in spans)
    assert {group.oldest for group in found.groups} <= {0, 1}


def test_dropped_groups_are_drawn_for_and_counted(made):
    def judge(prompts, groups):
        return [
            Judged(None, "all_wrong" if int(p.uid) % 3 == 0 else None, right=0, judged=SAMPLES)
            for p, _ in zip(prompts, groups, strict=True)
        ]

    collector = made(FakeEngines(2), judge)
    found = batch(collector)
    assert uids(found) == ["1", "2", "4", "5"]
    assert dict(found.dropped) == {"all_wrong": 2}
    assert found.admitted == 6
    assert collector.difficulty.of("0").drawn == 1


def test_without_signal_in_any_group_it_stops_in_words(made):
    collector = made(FakeEngines(1), lambda p, g: [Judged(None, "all_right", 3, 3)] * len(g), max_rounds=2)
    with pytest.raises(NoSignal, match=r"dropped 5 groups \(all_right 5\).*max_rounds = 2"):
        batch(collector)


def test_without_prompts_it_stops_in_words(made):
    collector = made(FakeEngines(1), source=Source(3, rounds=1))
    with pytest.raises(PromptsExhausted, match="there are no more prompts, and the 3 groups"):
        batch(collector)


@pytest.mark.parametrize("why", ["engine 1 died: killed.", "engine 1 hung: it drew no token for 5 s."])
def test_the_requests_of_a_lost_engine_are_issued_once_more_to_the_one_that_replaces_it(made, why):
    engines = FakeEngines(2, eager=False)
    collector = made(engines)
    found: list = []
    waiting = in_the_background(lambda: found.append(batch(collector)))
    until(lambda: engines.has(1) == 6)
    engines.draw(1, keep=2)
    until(lambda: not engines._ended[1])
    engines.lose(1, why)
    # Weights reach the new engine only when nothing is being drawn: the other one first ends what it has.
    time.sleep(0.2)
    assert engines.said == []
    engines.draw(0)
    until(lambda: engines.has(1) == 2)
    engines.draw(1)
    waiting.join(20)
    assert engines.said == ["replace [1]", "refresh with 0 under way"]
    assert uids(found[0]) == ["0", "1", "2", "3"]
    again = [(key, request.seed) for engine, incarnation, key, request in engines.submitted if incarnation]
    first = [(key, r.seed) for engine, incarnation, key, r in engines.submitted if engine == 1 and not incarnation]
    assert again == first[-2:]


def test_what_is_dropped_while_an_engine_is_replaced_is_drawn_for_when_that_one_has_weights(made):
    engines = FakeEngines(2, eager=False)
    held, judged = threading.Event(), threading.Event()

    def judge(prompts, groups):
        held.wait(20)
        judged.set()
        return [Judged(None, "all_wrong" if int(p.uid) < 4 else None, 0, SAMPLES) for p in prompts]

    replace_ = engines.replace

    def slow(lost):
        replace_(lost)
        held.set()
        judged.wait(20)
        time.sleep(0.2)

    engines.replace = slow
    collector = made(engines, judge)
    found: list = []
    waiting = in_the_background(lambda: found.append(batch(collector)))
    until(lambda: engines.has(0) == engines.has(1) == 6)
    engines.draw(1, keep=1)
    until(lambda: collector._assigned.owed(1) == 1)
    engines.lose(1, "engine 1 died: killed.")
    engines.draw(0)
    until(lambda: len(engines.said) == 2)
    assert engines.said == ["replace [1]", "refresh with 0 under way"]
    while waiting.is_alive():
        engines.draw(0)
        engines.draw(1)
        time.sleep(0.01)
    assert uids(found[0]) == ["4", "5", "6", "7"]


def test_asynchronously_the_others_go_on_while_one_is_replaced(made):
    engines = FakeEngines(2, eager=False)
    collector = made(engines, in_flight=True, max_staleness=1)
    until(lambda: engines.has(0) + engines.has(1) == 8 * SAMPLES)
    engines.lose(0, "engine 0 died: killed.")
    found: list = []
    waiting = in_the_background(lambda: found.append(batch(collector)))
    until(lambda: engines.said[:1] == ["replace [0]"] and engines.has(0) == 12)
    assert engines.said[1] == "refresh with 12 under way"
    engines.draw(0)
    engines.draw(1)
    waiting.join(20)
    assert len(found[0].groups) == 4


def test_what_is_lost_while_the_learner_trains_waits_for_the_next_weights(made):
    engines = FakeEngines(2, eager=False)
    collector = made(engines, max_staleness=1)
    in_the_background(lambda: (until(lambda: engines.has(0)), engines.draw(0), engines.draw(1)))
    batch(collector)
    until(lambda: engines.has(0) + engines.has(1) == 4 * SAMPLES)
    engines.lose(1, "engine 1 died: killed.")
    engines.draw(0)
    engines.said.clear()
    with collector.weights_change(1):
        engines.update(1)
        assert engines.said == ["replace [1]", "connect"]
        assert engines.has(1) == 0
    assert engines.has(1) == 6
    engines.draw(1)
    found = batch(collector)
    assert uids(found) == ["4", "5", "6", "7"]
    assert {r.versions[0].version for g in found.groups for r in g.payload.responses} == {0, 1}


def garbage(what: str):
    def spoil(drawn):
        return {
            "nan": replace(drawn, logprobs=np.full(2, np.nan, np.float32)),
            "short": replace(drawn, logprobs=drawn.logprobs[:1]),
            "empty": replace(drawn, token_ids=drawn.token_ids[:0], logprobs=drawn.logprobs[:0]),
            "other": replace(drawn, uid="another"),
        }[what]

    return spoil


@pytest.mark.parametrize(
    ("what", "words"),
    [("nan", "that are none"), ("short", "2 tokens with 1"), ("empty", "0 tokens"), ("other", "another in the place")],
)
def test_an_engine_that_returns_garbage_is_replaced(made, what, words):
    engines = FakeEngines(1)
    said: list[str] = []
    replace_ = engines.replace

    def note(lost):
        said.extend(lost.values())
        engines.spoil = lambda drawn: drawn
        replace_(lost)

    engines.replace = note
    engines.spoil = garbage(what)
    assert uids(batch(made(engines))) == ["0", "1", "2", "3"]
    assert len(said) == 1
    assert said[0].startswith("engine 0 returned garbage: ")
    assert words in said[0]
    assert "logs/engine-0.log" in said[0]


def test_an_engine_that_cannot_be_replaced_ends_the_run(made):
    engines = FakeEngines(1, eager=False)

    def replace_(lost):
        raise RolloutFailed("rollout.restarts = 0 allows no further one.")

    engines.replace = replace_
    collector = made(engines)
    in_the_background(lambda: (until(lambda: engines.has(0)), engines.lose(0, "engine 0 died.")))
    with pytest.raises(RolloutFailed, match="restarts = 0"):
        batch(collector)


def test_slow_verdicts_do_not_keep_engines_waiting(made):
    engines = FakeEngines(1)
    held = threading.Event()
    collector = made(
        engines, lambda p, g: keep_all(p, g) if held.wait(20) else [], in_flight=True, max_staleness=1, batches=3
    )
    # Both batches are drawn, although no verdict has come yet.
    until(lambda: len(engines.submitted) == 8 * SAMPLES and not engines.has(0))
    held.set()
    assert len(batch(collector).groups) == 4


def test_a_wait_that_gets_nowhere_names_what_it_waits_for(made):
    engines = FakeEngines(2, eager=False)
    collector = made(engines, deadline_s=0.3)
    until_drawn = in_the_background(lambda: (until(lambda: engines.has(1) == 6), engines.draw(1)))
    with pytest.raises(NoProgress, match=r"no batch after 0.3 s \(rollout.deadline_s\).*: engine 0 draws 6; .*: 0;"):
        batch(collector)
    until_drawn.join(20)
    never = threading.Event()
    stuck = made(FakeEngines(1), lambda p, g: never.wait(20) and [], deadline_s=0.3)
    with pytest.raises(NoProgress, match="not there yet: none; groups without verdicts: 4;"):
        batch(stuck)
    never.set()


def test_an_engine_that_hung_is_named_before_what_it_owes(made):
    """The other one would have to end what it draws before the first is replaced, and does not."""
    engines = FakeEngines(2, eager=False)
    collector = made(engines, deadline_s=1.0)
    hung = "engine 1 hung: it drew no token for 5 s (rollout.stall_s). See logs/engine-1.log."
    losing = in_the_background(lambda: (until(lambda: engines.has(1) == 6), engines.lose(1, hung)))
    with pytest.raises(NoProgress) as raised:
        batch(collector)
    losing.join(20)
    assert str(raised.value).startswith(
        f"{hung} So there was no batch after 1 s (rollout.deadline_s): responses not there yet: "
        "engine 0 draws 6, engine 1 lost 6;"
    )
    assert not engines.said


def test_asynchronously_an_engine_that_hung_too_often_is_what_the_run_ends_with(made):
    engines = FakeEngines(2, eager=False)
    hung = "engine 1 hung: it drew no token for 5 s (rollout.stall_s). See logs/engine-1.log."

    def replace_(lost):
        raise RolloutFailed(f"{' '.join(lost.values())} rollout.restarts = 0 allows no further one.")

    engines.replace = replace_
    collector = made(engines, in_flight=True, max_staleness=1)
    until(lambda: engines.has(0) and engines.has(1))
    engines.lose(1, hung)
    with pytest.raises(RolloutFailed) as raised:
        batch(collector)
    assert str(raised.value) == f"{hung} rollout.restarts = 0 allows no further one."


def test_what_a_verifier_raises_ends_the_run(made):
    def judge(prompts, groups):
        raise ValueError("a verifier of the user's own")

    with pytest.raises(ValueError, match="of the user's own"):
        batch(made(FakeEngines(1), judge))


def test_a_sync_that_fails_half_way_issues_again_what_the_engines_had(made):
    """The transfer replaces all engines by itself and begins anew, as the graph does."""
    engines = FakeEngines(2, eager=False)
    collector = made(engines, in_flight=True, max_staleness=1)
    until(lambda: engines.has(0) + engines.has(1) == 8 * SAMPLES)
    with collector.weights_change(1):
        engines.replace({0: "the transfer was broken off", 1: "engine 1 died: killed."})
        # Nothing is drawn from weights that are not there.
        time.sleep(0.05)
        assert engines.has(0) + engines.has(1) == 0
        engines.update(1)
    until(lambda: engines.has(0) + engines.has(1) == 12 * SAMPLES)
    engines.draw(0)
    engines.draw(1)
    found = batch(collector)
    keys = [key for _, _, key, _ in engines.submitted]
    assert len(set(keys)) == 12 * SAMPLES
    assert len(found.groups) == 4


def test_it_goes_on_from_its_state_with_what_waited(made):
    engines = FakeEngines(2)
    collector = made(engines, max_staleness=1)
    batch(collector)
    with collector.weights_change(1):
        engines.update(1)
    state, kept = collector.state_dict(lambda: {"cursor": 3})
    assert state["prompts"] == {"cursor": 3}
    assert [group.prompt.uid for group in kept] == ["4", "5", "6", "7"]
    source = Source(4)
    source.given = 2
    stream = GroupStream(4, 1, 99, True, True, 9, 1, source)
    later = FakeEngines(2)
    later.version = 1
    again = Collector(later, stream, prompt, SAMPLES, 7, keep_all, False, 1, 30.0)
    again.load_state_dict(state, kept)
    again.start()
    try:
        found = batch(again)
        assert [group.payload for group in found.groups] == kept
        until(lambda: len(later.submitted) == 4 * SAMPLES)
        assert {r.uid for *_, r in later.submitted} == {"8", "9", "10", "11"}
    finally:
        again.close()


def test_idle_share_and_speed_of_engines_are_by_the_clock():
    now = [0.0]
    engines = FakeEngines(2, eager=False)
    stream = GroupStream(1, 0, 9, True, True, 9, 1, Source(1))
    collector = Collector(engines, stream, prompt, 1, 7, keep_all, False, 0, 0.0, clock=lambda: now[0])
    now[0] = 10.0
    # It is not started: what is admitted stays where it is.
    with pytest.raises(NoProgress):
        collector.wait_drawn()
    assert [engines.has(0), engines.has(1)] == [1, 0]
    # From second 10 on one of the two engines is busy, and draws two tokens.
    now[0] = 20.0
    collector.start()
    engines.draw(0)
    until(lambda: not collector._assigned.owing())
    figures = collector.figures()
    assert figures["speed/engines_idle_share"] == pytest.approx((20 + 10) / 40)
    assert figures["speed/engine_tokens_per_s.0"] == pytest.approx(2 / 10)
    assert "speed/engine_tokens_per_s.1" not in figures
    collector.close()
