"""What a rollout hands to the learner, and what a checkpoint holds of groups that wait."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from launch.phases import Phases
from launch.rollouts import Rollouts, batch_metrics, curriculum_of, judge_of, stragglers_of
from launch.sampling import sampling
from launch.saved_rollouts import pack, unpack
from launch.verdicts import GroupVerdicts
from reward.types import FailureKind, Verdict
from rollout.difficulty import Difficulty
from rollout.groups import Drawn
from rollout.prompts import PromptSource
from rollout.stream import Batch, Issue, Kept
from rollout.types import FinishReason, Prompt, Response, VersionSpan
from tests.composed import compose


def prompt(uid: str) -> Prompt:
    return Prompt(uid, f"text of {uid}", np.array([1, 2], np.int32), "s", "math", "1", {}, "")


def response(uid: str, sample: int, tokens: int, spans=((0, 3),)) -> Response:
    rng = np.random.default_rng(sample)
    ids, logprobs = rng.integers(0, 99, tokens).astype(np.int32), -rng.random(tokens).astype(np.float32)
    versions = tuple(VersionSpan(*span) for span in spans)
    return Response(uid, sample, ids, logprobs, f"é {sample}", FinishReason.LENGTH, versions, 1)


def test_groups_that_wait_come_back_bit_for_bit():
    right = Verdict(1.0, None, "4", "boxed", "fine", 0.25, 0.5)
    failed = Verdict.failed(FailureKind.MEMORY, "too much", 0.1)
    kept = [
        Drawn(
            prompt("s/1"),
            [response("s/1", 0, 3, ((0, 3), (2, 4))), response("s/1", 1, 5)],
            GroupVerdicts([right, failed], {"think": [failed, right]}),
        ),
        Drawn(prompt("s/2"), [response("s/2", 0, 1)], GroupVerdicts([failed], {"think": [right]})),
    ]
    groups, arrays = pack(kept)
    found = unpack(json.loads(json.dumps(groups)), arrays, prompt)
    assert [group.prompt.uid for group in found] == ["s/1", "s/2"]
    for before, after in zip(kept, found, strict=True):
        assert after.payload == before.payload
        for was, now in zip(before.responses, after.responses, strict=True):
            assert now.token_ids.tolist() == was.token_ids.tolist()
            assert now.logprobs.tobytes() == was.logprobs.tobytes()
            none = np.zeros(0)
            assert replace(now, token_ids=none, logprobs=none) == replace(was, token_ids=none, logprobs=none)
    assert isinstance(found[0].responses[0].finish_reason, FinishReason)
    assert isinstance(found[0].payload.own[1].failure, FailureKind)


def test_nothing_that_waits_is_nothing_to_save():
    assert pack([]) == ([], {})
    assert unpack([], {}, prompt) == []


class FakePool:
    """The score of a response is its text's last sign; "x" fails."""

    def verify(self, requests):
        return [
            Verdict.failed(FailureKind.CRASH, "", 0.0)
            if r.response[-1] == "x"
            else Verdict(float(r.response[-1]), None, "", "", "", 0.0)
            for r in requests
        ]


def said(uid: str, texts: list[str]) -> list[Response]:
    return [replace(response(uid, sample, 1), text=text) for sample, text in enumerate(texts)]


def test_each_group_is_judged_and_filtered_by_itself():
    config = compose(["rollout.filter.no_signal=true", "+reward.terms.verifiers={think_answer: 0.1}"])
    groups = [said("s/1", ["1", "0"]), said("s/2", ["1", "1"]), said("s/3", ["0", "0", "x"])]
    found = judge_of(config, FakePool())([prompt("s/1"), prompt("s/2"), prompt("s/3")], groups)
    assert [one.dropped for one in found] == [None, "all_right", "all_wrong"]
    assert [(one.right, one.judged) for one in found] == [(1, 2), (2, 2), (0, 2)]
    assert [[v.score for v in one.payload.own] for one in found] == [[1, 0], [1, 1], [0, 0, None]]
    assert [len(one.payload.further["think_answer"]) for one in found] == [2, 2, 3]


def test_how_groups_came_about_is_told():
    groups = [Kept(Issue(n, str(n), 1, version), None, version, 5) for n, version in enumerate([3, 5, 5])]
    row = batch_metrics(Batch(5, groups, 9, {"all_wrong": 2, "all_right": 3}, [10, 20]))
    assert row == {
        "groups/admitted": 9,
        "groups/dropped": 5,
        "groups/dropped.all_right": 3,
        "groups/dropped.all_wrong": 2,
        "groups/stale": 2,
        "groups/stale_tokens_mean": 15.0,
        "groups/age_mean": pytest.approx(2 / 3),
        "groups/age_max": 2,
    }


def test_difficulty_is_the_mean_pass_rate_of_a_prompts_groups():
    record = Difficulty()
    for right, judged in ((1, 4), (3, 4), (0, 0), (2, 2)):
        record.add("a", right, judged)
    record.add("b", 0, 4)
    record.settle()
    again = Difficulty()
    again.load_state_dict(json.loads(json.dumps(record.state_dict())))
    found = again.of("a")
    assert (found.drawn, found.pass_rate) == (3, pytest.approx((0.25 + 0.75 + 1.0) / 3))
    assert again.of("c") is None
    assert again.metrics() == {
        "difficulty/prompts": 2,
        "difficulty/never_right_share": 0.5,
        "difficulty/always_right_share": 0.0,
    }


def test_prompts_are_handed_out_as_the_curriculum_allows():
    """Every second prompt has been solved each time, and is passed over when the second epoch has begun."""
    config = compose(["rollout.prompts_per_step=2", "data.curriculum.highest=0.9", "off_policy.minibatches=1"])
    source = PromptSource([prompt(f"p/{row}") for row in range(4)], 2, False, 0)
    pool = SimpleNamespace(actors=[None, None], incarnation=lambda engine: 0)
    rollouts = Rollouts(config, pool, None, source, None, True)
    hand_out, difficulty = rollouts._collector._stream._hand_out, rollouts._collector.difficulty
    assert hand_out() + hand_out() == ["p/0", "p/1", "p/2", "p/3"]
    for row in range(4):
        difficulty.add(f"p/{row}", 8 * (row % 2), 8)
    difficulty.settle()
    assert hand_out() == ["p/0", "p/2"]
    assert rollouts._passed_over() == {"difficulty/passed_over_share": 0.5}


def test_a_rollout_is_drawn_at_the_temperature_it_is_asked_for_and_else_as_configured():
    config, drawn = compose(["rollout.temperature=0.8", "rollout.prompts_per_step=1", "off_policy.minibatches=1"]), []
    pool = SimpleNamespace(actors=[None], incarnation=lambda engine: 0, submit=lambda *call: drawn.append(call[-1]))
    source = PromptSource([prompt(f"p/{row}") for row in range(4)], 1, False, 0)
    rollouts = Rollouts(config, pool, None, source, None, True)
    group = Drawn(prompt("p/0"), said("p/0", ["1"]), GroupVerdicts([Verdict(1.0, None, "", "", "", 0.0)], {}))
    rollouts._collector = SimpleNamespace(
        # A second submission, as of a group in the place of one that was dropped, or that was lost.
        wait_drawn=lambda: [rollouts._calls.submit(0, 0, {}) for _ in range(2)],
        wait_judged=lambda: Batch(0, [Kept(Issue(0, "p/0", 1, 0), group, 0, 1)], 1, {}, []),
        figures=dict,
        rates=list,
    )
    for asked, wanted in ((None, 0.8), (1.3, 1.3), (0.9, 0.9), (None, 0.8)):
        rollout = rollouts.next(Phases(), asked)
        assert rollout.temperature == rollout.metrics["rollout/temperature"] == wanted
        assert drawn == [replace(sampling(config.rollout), temperature=wanted)] * 2
        drawn.clear()
    # Evaluation has its own.
    assert sampling(config.evaluation).temperature == 1.0


def test_without_bounds_there_is_no_curriculum_and_stragglers_are_left_alone():
    config = compose([])
    assert curriculum_of(config.data.curriculum, Difficulty()) is None
    assert stragglers_of(config.rollout) is None
    assert stragglers_of(compose(["rollout.stragglers.policy=hedge"]).rollout) is not None
