"""Prompts passed over by how often they were solved: by hand, and over runs that are broken off and taken up."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rollout.collector import Collector
from rollout.config import CurriculumConfig
from rollout.curriculum import Curriculum
from rollout.difficulty import Difficulty
from rollout.failures import PromptsExhausted
from rollout.groups import Judged
from rollout.mixing import MixedSource
from rollout.prompts import PromptSource
from rollout.seeds import keyed_hash
from rollout.stream import GroupStream
from tests.rollout.fake_engines import FakeEngines, prompt
from tests.rollout.test_collector import batch

SAMPLES = 4


def curriculum(rates: dict[str, float], lowest=0.2, highest=0.8, revisit=None) -> Curriculum:
    return Curriculum(CurriculumConfig(lowest, highest, revisit), rates.get)


def source(count: int, per_step: int, shuffle: bool = False, name: str = "p") -> PromptSource:
    return PromptSource([prompt(f"{name}/{row}") for row in range(count)], per_step, shuffle, 3)


def rows(prompts) -> list[int]:
    return [int(each.uid.split("/")[1]) for each in prompts]


def test_bounds_are_within_and_a_prompt_that_was_never_drawn_is_allowed():
    made = curriculum({"hard": 0.19, "low": 0.2, "high": 0.8, "easy": 0.81})
    assert [made.allows(uid, 1) for uid in ("hard", "low", "high", "easy", "new")] == [False, True, True, False, True]
    assert made.outside_share([0.1, 0.2, 0.5, 0.9]) == 0.5
    assert curriculum({"hard": 0.1, "easy": 0.9}, highest=None).allows("easy", 1)
    assert curriculum({"hard": 0.1, "easy": 0.9}, lowest=None).allows("hard", 1)


def test_every_so_many_epochs_all_are_allowed():
    made = curriculum({"hard": 0.0}, revisit=3)
    assert [made.allows("hard", epoch) for epoch in range(7)] == [True, False, False, True, False, False, True]


def test_an_epoch_without_what_is_out_of_bounds():
    made, rates = source(6, 2), {"p/0": 0.0, "p/2": 1.0, "p/3": 0.5}
    # Rows 0 and 2 are passed over, again and again; the last step of an epoch is filled from the next one.
    steps = [rows(made.next(curriculum(rates))) for _ in range(4)]
    assert steps == [[1, 3], [4, 5], [1, 3], [4, 5]]
    rates["p/1"] = 0.9
    assert [rows(made.next(curriculum(rates))) for _ in range(2)] == [[3, 4], [5, 3]]
    # Row 3 was put last, because it was in the step in which the epoch began.
    assert rows(made.next(curriculum(rates))) == [4, 5]


def test_what_was_passed_over_comes_back_when_it_is_solved_again_or_its_epoch_comes():
    made, rates = source(4, 2), {"p/0": 0.0, "p/1": 0.0}
    made.next()
    made.next()
    assert rows(made.next(curriculum(rates, revisit=3))) == [2, 3]
    assert rows(made.next(curriculum(rates, revisit=3))) == [2, 3]
    assert rows(made.next(curriculum(rates, revisit=3))) == [0, 1]
    assert rows(made.next(curriculum({}, revisit=3))) == [2, 3]


@pytest.mark.parametrize("revisit", [None, 3])
def test_no_prompt_is_twice_in_a_step_however_few_are_allowed(revisit):
    made, rates = source(5, 3, shuffle=True), {"p/0": 0.0, "p/1": 1.0, "p/4": 1.0}
    if revisit is None:
        made.next(curriculum({}))
        made.next(curriculum({}))
        words = r"allows 2 more prompts, and a step takes 3: .* below lowest = 0.2 or above highest = 0.8; widen"
        with pytest.raises(PromptsExhausted, match=words):
            made.next(curriculum(rates))
        return
    for _ in range(9):
        step = rows(made.next(curriculum(rates, revisit=revisit)))
        assert len(set(step)) == 3


def test_each_source_of_a_mixture_has_its_share_of_what_is_allowed():
    mixed = MixedSource(
        {name: [prompt(f"{name}/{row}") for row in range(6)] for name in "ab"}, {"a": 1.0, "b": 1.0}, 4, False, 3
    )
    rates = {"a/0": 0.0, "a/2": 0.0, "b/5": 0.0}
    found = [each.uid for _ in range(3) for each in mixed.next(curriculum(rates))]
    assert [uid for uid in found if uid[0] == "a"] == ["a/1", "a/3", "a/4", "a/5", "a/1", "a/3"]
    assert [uid for uid in found if uid[0] == "b"] == ["b/0", "b/1", "b/2", "b/3", "b/4", "b/0"]


def test_a_record_counts_from_the_batch_on_that_it_is_settled_with():
    made = Difficulty()
    made.add("a", 1, 4)
    assert made.of("a") is None
    assert made.metrics() == {"difficulty/prompts": 0}
    made.settle()
    assert made.of("a").pass_rate == 0.25
    made.add("a", 3, 4)
    made.add("b", 4, 4)
    again = Difficulty()
    again.load_state_dict(json.loads(json.dumps(made.state_dict())))
    for each in (made, again):
        assert (each.of("a").pass_rate, each.of("b"), each.rates()) == (0.25, None, [0.25])
        each.settle()
        assert (each.of("a").pass_rate, each.of("b").pass_rate, each.rates()) == (0.5, 1.0, [0.5, 1.0])


@dataclass
class Run:
    """A collector whose prompts follow the curriculum; how often each is right is a hash of the prompt and a seed."""

    one_step_off: bool
    state: tuple | None = None

    def __enter__(self) -> "Run":
        self.source = source(24, 4, shuffle=True)
        self.step = self.state[2] if self.state else 0
        engines = FakeEngines(2)
        engines.version = self.step
        stream = GroupStream(4, int(self.one_step_off), 40, True, True, 9, 1, self.hand_out)
        self.collector = Collector(engines, stream, self.source.prompt, SAMPLES, 7, judge, False, self.step, 30.0)
        self.engines = engines
        self.curriculum = Curriculum(CurriculumConfig(0.25, 0.75, 4), self.rate)
        if self.state:
            plain, kept, _ = self.state
            self.collector.load_state_dict(plain, kept)
            self.source.load_state_dict(plain["prompts"])
        self.collector.start()
        return self

    def __exit__(self, *_) -> None:
        self.collector.close()

    def rate(self, uid: str) -> float | None:
        record = self.collector.difficulty.of(uid)
        return record.pass_rate if record else None

    def hand_out(self) -> list[str]:
        return [each.uid for each in self.source.next(self.curriculum)]

    def steps(self, count: int) -> Iterator[tuple]:
        """Number, uid and round of the groups of each step, with the records then."""
        for _ in range(count):
            groups = [(g.issue.number, g.issue.uid, g.issue.round) for g in batch(self.collector).groups]
            yield groups, self.collector.rates()
            self.step += 1
            with self.collector.weights_change(self.step):
                self.engines.update(self.step)

    def saved(self) -> tuple:
        plain, kept = self.collector.state_dict(self.source.state_dict)
        return json.loads(json.dumps(plain)), kept, self.step


def judge(prompts, groups) -> list[Judged]:
    """Some are dropped, so that prompts are handed out in the middle of a step too."""
    found = []
    for each, group in zip(prompts, groups, strict=True):
        right = keyed_hash("right", each.uid, int(group[0].token_ids[0])) % (SAMPLES + 1)
        found.append(Judged(None, "all_wrong" if right == 0 else None, right, SAMPLES))
    return found


@pytest.mark.parametrize("one_step_off", [False, True])
def test_a_run_that_is_taken_up_draws_the_prompts_of_the_run_that_was_not_broken_off(one_step_off):
    with Run(one_step_off) as straight:
        whole = list(straight.steps(30))
    # Those that were out of bounds waited for the epochs in which all are drawn.
    drawn = Counter(uid for groups, _ in whole for _, uid, _ in groups)
    assert max(drawn.values()) > 3 * min(drawn.values())
    state, found = None, []
    for count in (1, 4, 2, 7, 16):
        with Run(one_step_off, state) as run:
            found += list(run.steps(count))
            state = run.saved()
    assert found == whole
