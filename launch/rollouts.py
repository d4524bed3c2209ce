"""The rollouts of a run, one a step: prompts drawn from, judged, filtered, in whichever mode."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from launch.checkpoint_folder import Checkpoint
from launch.config import RunConfig
from launch.group_filter import reason_to_drop
from launch.phases import Phases
from launch.sampling import sampling
from launch.saved_rollouts import pack, unpack
from launch.verdicts import GroupVerdicts, verify_terms
from reward.pool import RewardPool
from reward.types import Verdict
from rollout.calls import EngineCalls
from rollout.collector import Collector
from rollout.config import ASYNCHRONOUS, DROP, HEDGE, CurriculumConfig, RolloutConfig
from rollout.curriculum import Curriculum
from rollout.difficulty import Difficulty
from rollout.groups import Judged
from rollout.mixing import MixedSource
from rollout.pool import RolloutPool
from rollout.prompts import PromptSource
from rollout.stragglers import Stragglers
from rollout.stream import Batch, GroupStream
from rollout.types import Prompt, Response


@dataclass(frozen=True)
class Rollout:
    """What a step trains on.

    prompts   and the group of responses to each
    verdicts  by each row's own verifier, one per response, prompt after prompt
    further   likewise by each verifier of `reward.terms`
    temperature  that they were drawn at
    metrics   of how the groups came about
    """

    prompts: list[Prompt]
    groups: list[list[Response]]
    verdicts: list[Verdict]
    further: dict[str, list[Verdict]]
    temperature: float
    metrics: dict[str, float]


class Rollouts:
    """Rollouts for the steps of `config` after those of `taken_up`. A context manager; leaving it stops drawing.

    taken_up      the checkpoint to go on from; None for a run from its beginning
    same_prompts  whether `source` has the prompts of the checkpoint; else nothing that was drawn is taken up
    """

    def __init__(
        self,
        config: RunConfig,
        engines: RolloutPool,
        reward: RewardPool,
        source: PromptSource | MixedSource,
        taken_up: Checkpoint | None,
        same_prompts: bool,
    ):
        rollout = config.rollout
        self._source, self._terms = source, config.reward.terms.verifiers
        in_flight = rollout.mode == ASYNCHRONOUS
        stream = GroupStream(
            rollout.prompts_per_step,
            config.off_policy.max_staleness,
            config.steps,
            in_order=not in_flight,
            drop_stale=rollout.stale == DROP,
            max_rounds=rollout.filter.max_rounds,
            oversample=rollout.filter.oversample,
            hand_out=lambda: [prompt.uid for prompt in source.next(self._curriculum)],
        )
        self._sampling = sampling(rollout)
        self._calls = EngineCalls(engines, self._sampling, rollout.stall_s)
        self._collector = Collector(
            self._calls,
            stream,
            source.prompt,
            rollout.samples_per_prompt,
            config.seed,
            judge_of(config, reward),
            in_flight,
            taken_up.state["weight_version"] if taken_up else 0,
            rollout.deadline_s,
            stragglers_of(rollout),
        )
        self._curriculum = curriculum_of(config.data.curriculum, self._collector.difficulty)
        if taken_up and not same_prompts:
            stream.begin_after(taken_up.step)
        elif taken_up:
            state = taken_up.state["rollout"]
            self._collector.load_state_dict(state, unpack(state["kept"], taken_up.rollouts(), source.prompt))

    def next(self, phases: Phases, temperature: float | None) -> Rollout:
        """The rollout of the next step, waited for in the phases `generate` and `verify`.

        temperature  to draw it at, where none of it has been drawn yet; None for the configured one
        Raises NoProgress, NoSignal, PromptsExhausted, RolloutFailed, and what verifiers raise.
        """
        usual = self._sampling
        self._calls.sampling = usual if temperature is None else replace(usual, temperature=temperature)
        while True:
            with phases("generate"):
                self._collector.wait_drawn()
            with phases("verify"):
                batch = self._collector.wait_judged()
            if batch:
                return self._rollout(batch)

    def settle(self) -> None:
        """Where weights change between batches only, wait until the next batch has been drawn and judged."""
        self._collector.settle()

    @contextmanager
    def weights_change(self, version: int) -> Iterator[None]:
        """Within it, engines get the weights of `version`."""
        with self._collector.weights_change(version):
            yield

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a checkpoint holds: JSON values with the cursor of the prompts, and tokens of what waits for a batch."""
        state, kept = self._collector.state_dict(self._source.state_dict)
        groups, arrays = pack(kept)
        prompts = state.pop("prompts")
        return {"prompts": prompts, "rollout": {**state, "kept": groups}}, arrays

    def __enter__(self) -> "Rollouts":
        self._collector.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._collector.close()

    def _rollout(self, batch: Batch) -> Rollout:
        drawn = [group.payload for group in batch.groups]
        return Rollout(
            [group.prompt for group in drawn],
            [group.responses for group in drawn],
            [verdict for group in drawn for verdict in group.payload.own],
            {name: [verdict for group in drawn for verdict in group.payload.further[name]] for name in self._terms},
            self._calls.sampling.temperature,
            {"rollout/temperature": self._calls.sampling.temperature}
            | batch_metrics(batch)
            | self._collector.figures()
            | self._passed_over(),
        )

    def _passed_over(self) -> dict[str, float]:
        """The share of prompts with a record that the curriculum passes over."""
        rates = self._collector.rates()
        if not (self._curriculum and rates):
            return {}
        return {"difficulty/passed_over_share": self._curriculum.outside_share(rates)}


def curriculum_of(config: CurriculumConfig, difficulty: Difficulty) -> Curriculum | None:
    """What passes over prompts by their record in `difficulty`; None where every prompt is drawn."""
    if config.lowest is None and config.highest is None:
        return None

    def rate(uid: str) -> float | None:
        record = difficulty.of(uid)
        return record.pass_rate if record else None

    return Curriculum(config, rate)


def stragglers_of(config: RolloutConfig) -> Stragglers | None:
    """What tells late responses; None where they are left alone."""
    if config.stragglers.policy != HEDGE:
        return None
    return Stragglers(config.stragglers.factor, config.prompts_per_step * config.samples_per_prompt)


def batch_metrics(batch: Batch) -> dict[str, float]:
    """How the groups of a batch came about.

    groups/admitted             since the batch before
    groups/dropped              by the filter, and `groups/dropped.<reason>`
    groups/stale                drawn anew because they were too old, with groups/stale_tokens_mean
    groups/age_mean, age_max    weight versions from the admission of a group to its batch
    """
    ages = [batch.version - group.issue.version for group in batch.groups]
    row: dict[str, float] = {
        "groups/admitted": batch.admitted,
        "groups/dropped": sum(batch.dropped.values()),
        "groups/stale": len(batch.stale_tokens),
        "groups/age_mean": float(np.mean(ages)),
        "groups/age_max": max(ages),
    }
    if batch.stale_tokens:
        row["groups/stale_tokens_mean"] = float(np.mean(batch.stale_tokens))
    return row | {f"groups/dropped.{reason}": count for reason, count in sorted(batch.dropped.items())}


def judge_of(
    config: RunConfig, reward: RewardPool
) -> Callable[[Sequence[Prompt], Sequence[Sequence[Response]]], list[Judged]]:
    """Judges groups by the verifiers and the filter of `config`; the payload is their `GroupVerdicts`."""
    terms, filtering, on_failure = config.reward.terms.verifiers, config.rollout.filter, config.reward.on_failure

    def judge(prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]]) -> list[Judged]:
        own, further = verify_terms(reward, prompts, groups, terms)
        found, start = [], 0
        for group in groups:
            end = start + len(group)
            verdicts = GroupVerdicts(own[start:end], {name: all_[start:end] for name, all_ in further.items()})
            found.append(judged(verdicts, reason_to_drop(verdicts.own, filtering, on_failure)))
            start = end
        return found

    return judge


def judged(verdicts: GroupVerdicts, dropped: str | None) -> Judged:
    """A group with its verdicts, and why the filter drops it."""
    scores = [verdict.score for verdict in verdicts.own if verdict.score is not None]
    return Judged(verdicts, dropped, right=sum(score == 1.0 for score in scores), judged=len(scores))
