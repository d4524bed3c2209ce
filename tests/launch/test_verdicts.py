"""Who is asked to judge what, and in which order the verdicts come back."""

import numpy as np

from launch.verdicts import facts, verify, verify_terms
from reward.composition import ResponseFacts
from reward.types import Verdict
from rollout.types import FinishReason, Prompt, Response, VersionSpan


class FakePool:
    """Remembers the requests; the score of the i-th is i hundredths."""

    def verify(self, requests):
        self.requests = requests
        return [Verdict(i / 100, None, "", "", "", 0.0) for i in range(len(requests))]


def prompt(uid, verifier, gold):
    return Prompt(uid, f"text of {uid}", np.zeros(2, np.int32), "s", verifier, gold, {"kind": uid}, "")


def response(text, tokens=1, finish=FinishReason.STOP):
    ids = np.zeros(tokens, np.int32)
    return Response("", 0, ids, np.zeros(tokens, np.float32), text, finish, (VersionSpan(0, 0),), 0)


PROMPTS = [prompt("a", "math", "72"), prompt("b", "countdown", {"numbers": [1], "target": 1})]
GROUPS = [[response("a0"), response("a1")], [response("b0", 9, FinishReason.LENGTH), response("b1", 4)]]


def test_every_row_is_judged_by_its_own_verifier():
    pool = FakePool()
    assert [verdict.score for verdict in verify(pool, PROMPTS, GROUPS)] == [0.0, 0.01, 0.02, 0.03]
    asked = [(r.verifier, r.prompt, r.response, r.gold, r.metadata) for r in pool.requests]
    assert asked[1] == ("math", "text of a", "a1", "72", {"kind": "a"})
    assert asked[2] == ("countdown", "text of b", "b0", {"numbers": [1], "target": 1}, {"kind": "b"})


def test_further_verifiers_judge_every_response_in_the_same_batch():
    pool = FakePool()
    own, further = verify_terms(pool, PROMPTS, GROUPS, {"think_answer": 0.1, "mine:short": 0.2})
    assert [verdict.score for verdict in own] == [0.0, 0.01, 0.02, 0.03]
    assert {name: [v.score for v in found] for name, found in further.items()} == {
        "think_answer": [0.04, 0.05, 0.06, 0.07],
        "mine:short": [0.08, 0.09, 0.1, 0.11],
    }
    assert [r.response for r in pool.requests] == ["a0", "a1", "b0", "b1"] * 3
    assert [r.gold for r in pool.requests[4:6]] == ["72", "72"]


def test_references_by_the_names_of_the_verifiers():
    pool = FakePool()
    prompts = [prompt("a", "math", {"math": "72", "instructions": {"kwargs": []}, "answer": "unused"})]
    verify_terms(pool, prompts, [[response("a0")]], ["instructions", "think_answer"])
    assert [r.gold for r in pool.requests] == ["72", {"kwargs": []}, prompts[0].gold]
    # Of one verifier alone the reference is its own, whatever its keys.
    verify(pool, prompts, [[response("a0")]])
    assert pool.requests[0].gold == prompts[0].gold


def test_nothing_in_nothing_out():
    assert verify_terms(FakePool(), [], [], ["think_answer"]) == ([], {"think_answer": []})
    assert verify(FakePool(), [], []) == []


def test_facts():
    assert facts(GROUPS) == [
        ResponseFacts(1, False),
        ResponseFacts(1, False),
        ResponseFacts(9, True),
        ResponseFacts(4, False),
    ]
