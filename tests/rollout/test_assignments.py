"""Who draws what: by hand, and over any interleaving of copies, answers and losses."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.assignments import Assignments
from rollout.types import GenerationRequest

KEYS = [(number, sample) for number in range(3) for sample in range(2)]


def requests(keys):
    return {key: GenerationRequest(str(key[0]), key[1], np.array([1], np.int32), key[0]) for key in keys}


def test_the_first_answer_counts_and_the_other_engine_is_called_off():
    made = Assignments(3)
    made.give(0, requests(KEYS[:2]))
    assert made.alone(KEYS[0]).uid == "0"
    made.give(2, requests(KEYS[:1]))
    assert made.alone(KEYS[0]) is None
    assert made.owing() == [0, 2]
    assert made.answer(2, KEYS[0]) == [0]
    # Engine 0 still owes two answers, of which one counts for nothing.
    assert [made.owed(engine) for engine in range(3)] == [2, 0, 0]
    assert made.wanted(0) == 1
    assert made.request(0, KEYS[0]) is None
    assert made.give_up(0, KEYS[0])
    assert not made.give_up(0, KEYS[1])
    assert made.answer(0, KEYS[1]) == []
    assert made.owing() == []


def test_an_engine_that_was_replaced_draws_what_no_other_does():
    made = Assignments(2)
    made.give(0, requests(KEYS[:3]))
    made.give(1, requests(KEYS[1:3]))
    assert made.answer(1, KEYS[2]) == [0]
    assert list(made.renew(0)) == KEYS[:1]
    assert [made.owed(engine) for engine in range(2)] == [1, 1]
    # Of two that are replaced one after the other, one keeps what both had.
    made.give(0, requests(KEYS[1:2]))
    assert list(made.renew(0)) == KEYS[:1]
    assert list(made.renew(1)) == [KEYS[1]]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_each_request_is_answered_once_and_none_is_lost(data):
    made, engines = Assignments(3), range(3)
    waiting, counted = set(KEYS), []
    # What each engine is really drawing: each request ends there once, unless the engine is replaced.
    drawing: list[list] = [[] for _ in engines]
    for place, key in enumerate(KEYS):
        made.give(place % 3, requests([key]))
        drawing[place % 3].append(key)
    for _ in range(data.draw(st.integers(0, 30))):
        engine = data.draw(st.sampled_from(engines))
        what = data.draw(st.sampled_from(["copy", "answer", "replace"]))
        if what == "copy":
            late = [key for key in sorted(waiting) if made.alone(key) and made.owed(engine) == 0]
            made.give(engine, requests(late))
            drawing[engine] += late
        elif what == "answer" and drawing[engine]:
            key = drawing[engine].pop(data.draw(st.integers(0, len(drawing[engine]) - 1)))
            if not made.give_up(engine, key):
                assert made.request(engine, key) is not None
                made.answer(engine, key)
                counted.append(key)
                waiting.remove(key)
        elif what == "replace":
            drawing[engine] = list(made.renew(engine))
        assert [made.owed(engine) for engine in engines] == [len(keys) for keys in drawing]
        assert {key for keys in drawing for key in keys} >= waiting
    for engine in engines:
        for key in drawing[engine]:
            if not made.give_up(engine, key):
                made.answer(engine, key)
                counted.append(key)
    assert sorted(counted) == KEYS
