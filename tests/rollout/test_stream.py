"""The bookkeeping of groups: by hand in each mode, and over any interleaving."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.failures import NoSignal, PromptsExhausted
from rollout.stream import GroupStream


class Source:
    """Rounds of `per_round` prompts, "0" "1" "2" ..., for ever or for `rounds` rounds."""

    def __init__(self, per_round: int, rounds: int | None = None):
        self.per_round, self.rounds, self.given = per_round, rounds, 0

    def __call__(self) -> list[str]:
        if self.given == self.rounds:
            return []
        self.given += 1
        return [str((self.given - 1) * self.per_round + i) for i in range(self.per_round)]


def stream(
    per_step=2, max_staleness=0, batches=9, in_order=True, drop_stale=True, max_rounds=9, oversample=1, source=None
) -> GroupStream:
    return GroupStream(
        per_step,
        max_staleness,
        batches,
        in_order,
        drop_stale,
        max_rounds,
        oversample,
        source or Source(max(1, per_step)),
    )


def keep(made: GroupStream, number: int, oldest: int) -> None:
    made.keep(number, f"drawn {number}", oldest, tokens=10 + number)


def numbers(groups) -> list[int]:
    return [group.issue.number for group in groups]


def test_synchronously_a_step_is_a_round_in_its_order():
    made = stream()
    for step in (1, 2, 3):
        issues = made.admit(step - 1)
        assert [(i.number, i.uid, i.round) for i in issues] == [(n, str(n), step) for n in (2 * step - 2, 2 * step - 1)]
        assert made.admit(step - 1) == []
        keep(made, issues[1].number, step - 1)
        assert made.take(step - 1) is None
        keep(made, issues[0].number, step - 1)
        batch = made.take(step - 1)
        assert numbers(batch.groups) == [issues[0].number, issues[1].number]
        assert [group.payload for group in batch.groups] == [f"drawn {i.number}" for i in issues]
        # The weights have not changed yet.
        assert made.admit(step - 1) == []


def test_one_step_off_the_next_batch_is_admitted_when_one_is_taken():
    made = stream(max_staleness=1)
    assert len(made.admit(0)) == 2
    for number in (0, 1):
        keep(made, number, 0)
    assert made.admit(0) == []
    assert numbers(made.take(0).groups) == [0, 1]
    assert [i.number for i in made.admit(0)] == [2, 3]
    for number in (3, 2):
        keep(made, number, 0)
    assert made.admit(1) == []
    assert numbers(made.take(1).groups) == [2, 3]
    assert [i.version for i in made.admit(1)] == [1, 1]


def test_asynchronously_what_has_ended_is_taken_and_stragglers_wait():
    made = stream(max_staleness=2, in_order=False)
    assert [i.number for i in made.admit(0)] == [0, 1, 2, 3, 4, 5]
    for number in (4, 1, 3):
        keep(made, number, 0)
    assert numbers(made.take(0).groups) == [1, 3]
    assert made.admit(0) == []
    assert [i.number for i in made.admit(1)] == [6, 7]


def test_no_more_is_admitted_than_the_run_needs():
    made = stream(max_staleness=5, batches=2, in_order=False)
    assert len(made.admit(0)) == 4


def test_a_dropped_group_gives_its_place_to_the_next_prompt():
    made = stream()
    made.admit(0)
    made.drop(0, "all wrong")
    assert [(i.number, i.uid, i.round) for i in made.admit(0)] == [(2, "2", 2)]
    keep(made, 1, 0)
    # Number 2 comes later in order, and nothing before 1 is missing.
    assert made.take(0) is None
    keep(made, 2, 0)
    batch = made.take(0)
    assert numbers(batch.groups) == [1, 2]
    assert (batch.admitted, dict(batch.dropped)) == (3, {"all wrong": 1})
    # What is left of the second round comes first.
    assert [(i.uid, i.round) for i in made.admit(1)] == [("3", 2), ("4", 3)]


def test_without_signal_it_stops_in_words():
    made = stream(max_rounds=3)
    for number in range(4):
        if number % 2 == 0:
            made.admit(0)
        made.drop(number, "all right" if number else "all wrong")
    made.admit(0)
    with pytest.raises(NoSignal, match=r"dropped 5 groups \(all right 4, all wrong 1\) .*max_rounds = 3 allows no"):
        made.drop(4, "all right")


def test_a_batch_lets_the_filter_begin_anew():
    made = stream(per_step=1, max_rounds=2, source=Source(1))
    for version in range(3):
        made.admit(version)
        made.drop(2 * version, "all right")
        made.admit(version)
        keep(made, 2 * version + 1, version)
        assert dict(made.take(version).dropped) == {"all right": 1}


def test_what_became_too_old_is_drawn_anew():
    made = stream(per_step=1, max_staleness=1, in_order=False)
    made.admit(0)
    keep(made, 0, oldest=0)
    keep(made, 1, oldest=0)
    assert numbers(made.take(0).groups) == [0]
    assert [i.number for i in made.admit(1)] == [2]
    keep(made, 2, oldest=1)
    assert numbers(made.take(1).groups) == [1]
    made.admit(2)
    # 3 ended at once; 2 is of version 1, and two versions old at 3.
    keep(made, 3, oldest=2)
    assert [(i.number, i.uid, i.version) for i in made.admit(3)] == [(2, "2", 3), (4, "4", 3)]
    batch = made.take(3)
    assert (numbers(batch.groups), batch.stale_tokens) == ([3], [12])


def test_what_became_too_old_stays_where_that_is_asked_for():
    made = stream(per_step=1, max_staleness=1, in_order=False, drop_stale=False)
    made.admit(0)
    keep(made, 0, oldest=0)
    assert numbers(made.take(7).groups) == [0]


def test_without_prompts_it_says_so_once_nothing_can_come():
    made = stream(source=Source(3, rounds=1), max_staleness=1)
    made.admit(0)
    for number in (0, 1):
        keep(made, number, 0)
    made.take(0)
    assert [i.number for i in made.admit(0)] == [2]
    assert made.take(1) is None
    keep(made, 2, 0)
    with pytest.raises(PromptsExhausted, match=r"the 1 groups that were kept are fewer than .* = 2"):
        made.take(1)


def test_with_oversampling_groups_are_drawn_together():
    made = stream(per_step=2, max_rounds=99, oversample=4)
    assert [i.number for i in made.admit(0)] == [0, 1]
    made.drop(1, "all right")
    # The first is still under way: how many are likely to be needed is not known.
    assert made.admit(0) == []
    made.drop(0, "all right")
    # Kept (0 + 1 x 2) / (2 + 2): 2 groups take 4.
    assert [i.number for i in made.admit(0)] == [2, 3, 4, 5]
    for number in (5, 4, 3):
        keep(made, number, 0)
    # Two are there, and the second might still be their first.
    assert made.take(0) is None
    keep(made, 2, 0)
    batch = made.take(0)
    assert (numbers(batch.groups), batch.admitted, dict(batch.dropped)) == ([2, 3], 6, {"all right": 2})
    # What was kept besides is too old for the next step, and its prompts are the first of it. The share now is
    # (4 + 1 x 2) / (6 + 2) = 0.75: 2 groups take 3.
    issues = made.admit(1)
    assert [(i.number, i.uid, i.version) for i in issues] == [(4, "4", 1), (5, "5", 1), (6, "6", 1)]
    for issue in issues:
        made.drop(issue.number, "all right")
    # (0 + 0.75 x 2) / (3 + 2) = 0.3, and never more than 4 x 2 at a time.
    assert len(made.admit(1)) == 7
    for number in range(7, 14):
        made.drop(number, "all right")
    assert len(made.admit(1)) == 8


def test_with_oversampling_what_one_step_off_may_use_is_kept():
    made = stream(per_step=1, max_staleness=1, max_rounds=99, oversample=4)
    (first,) = made.admit(0)
    made.drop(first.number, "all right")
    assert [i.number for i in made.admit(0)] == [1, 2]
    for number in (1, 2):
        keep(made, number, 0)
    assert numbers(made.take(0).groups) == [1]
    assert made.admit(1) == []
    assert numbers(made.take(1).groups) == [2]


def test_with_oversampling_a_checkpoint_does_not_change_what_is_drawn():
    source = Source(4)
    made = stream(per_step=2, max_rounds=99, oversample=4, source=source)
    for number in (0, 1):
        made.admit(0)
        made.drop(number, "all right")
    made.admit(0)
    keep(made, 4, 0)
    keep(made, 5, 0)
    state = json.loads(json.dumps(made.state_dict()))
    again = stream(per_step=2, max_rounds=99, oversample=4, source=source)
    again.load_state_dict(state, [group.payload for group in made.kept])
    assert again.state_dict() == state
    # Those that were not judged come first, with no others: as in the run that was not stopped.
    assert not again.is_ready(0)
    assert [i.number for i in again.admit(0)] == [2, 3]
    for one in (made, again):
        one.drop(2, "all wrong")
        assert not one.is_ready(0)
        one.drop(3, "all wrong")
        assert numbers(one.take(0).groups) == [4, 5]
    assert again.state_dict() == made.state_dict()


def test_it_goes_on_from_its_state():
    source = Source(3)
    made = stream(max_staleness=1, max_rounds=4, source=source, in_order=False)
    made.admit(0)
    made.drop(1, "all right")
    made.admit(0)
    keep(made, 3, 0)
    keep(made, 0, 0)
    state = json.loads(json.dumps(made.state_dict()))
    again = stream(max_staleness=1, max_rounds=4, source=source, in_order=False)
    again.load_state_dict(state, [group.payload for group in made.kept])
    assert again.state_dict() == state
    # What was under way is drawn once more under its own number, which gives it the same seeds.
    assert [(i.number, i.uid, i.round) for i in again.admit(0)] == [(2, "2", 1), (4, "4", 2)]
    batch = again.take(0)
    assert (numbers(batch.groups), batch.admitted, dict(batch.dropped)) == ([0, 3], 5, {"all right": 1})


@settings(max_examples=300, deadline=None)
@given(
    per_step=st.integers(1, 3),
    max_staleness=st.integers(0, 3),
    in_order=st.booleans(),
    oversample=st.sampled_from([1, 1, 2, 5]),
    rounds=st.none() | st.integers(1, 6),
    per_round=st.integers(1, 4),
    data=st.data(),
)
def test_nothing_is_lost_doubled_or_too_old(per_step, max_staleness, in_order, oversample, rounds, per_round, data):
    """Any interleaving of admitting, ending, dropping, taking, new weights and beginning again from the state."""

    source = Source(per_round, rounds)
    oversample = oversample if in_order else 1

    def new() -> GroupStream:
        return GroupStream(per_step, max_staleness, 50, in_order, True, 10**6, oversample, source)

    made, version, batches = new(), 0, 0
    began: dict[int, int] = {}  # the version with which each group that is under way began
    admitted: Counter[int] = Counter()
    uids: dict[int, str] = {}
    trained: list[int] = []
    dropped: list[int] = []
    stale = forgotten = 0
    for _ in range(data.draw(st.integers(1, 60))):
        what = data.draw(st.sampled_from(["admit", "end", "end", "drop", "take", "take", "version", "resume"]))
        if what == "admit":
            for issue in made.admit(version):
                admitted[issue.number] += 1
                assert uids.setdefault(issue.number, issue.uid) == issue.uid
                assert issue.number not in began
                began[issue.number] = issue.version
                assert issue.version == version
            out = len(trained) + len(made.kept) + len(made.under_way)
            assert out <= (max_staleness + version + oversample) * per_step
            assert {issue.number for issue in made.under_way} == set(began)
        elif what in ("end", "drop") and began:
            number = data.draw(st.sampled_from(sorted(began)))
            oldest = began.pop(number)
            if what == "drop":
                made.drop(number, "no reason")
                dropped.append(number)
            else:
                made.keep(number, number, oldest, 1)
        elif what == "take":
            try:
                batch = made.take(version)
            except PromptsExhausted:
                assert rounds is not None
                break
            if batch is None:
                continue
            batches += 1
            assert len(batch.groups) == per_step
            found = numbers(batch.groups)
            assert found == sorted(found) == [group.payload for group in batch.groups]
            assert all(0 <= version - group.oldest <= max_staleness for group in batch.groups)
            if in_order:
                assert not any(number < found[-1] for number in began)
            trained += found
            stale += len(batch.stale_tokens)
        elif what == "version" and batches > version:
            version += 1
        elif what == "resume":
            kept = [group.payload for group in made.kept]
            state = json.loads(json.dumps(made.state_dict()))
            made = new()
            made.load_state_dict(state, kept)
            forgotten += len(began)
            began.clear()
    # Each number is in one place only, and each prompt of a round was admitted under one number.
    places = [*trained, *dropped, *numbers(made.kept), *began, *(i["number"] for i in made.state_dict()["again"])]
    assert sorted(set(places)) == sorted(set(admitted))
    assert len(set(trained)) == len(trained)
    assert sorted({*places}) == list(range(len(set(places))))
    assert not set(trained) & set(dropped)
    assert len(set(uids.values())) == len(uids)
    waiting = [uid for uid, _ in made.state_dict()["waiting"]]
    assert sorted([*uids.values(), *waiting], key=int) == [str(i) for i in range(source.given * per_round)]
