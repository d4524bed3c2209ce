"""Which groups are drawn, kept, dropped and trained on: the bookkeeping of a rollout in every mode. Pure.

A group is admitted, drawn, judged, and then kept or dropped; kept groups wait for their batch. It knows no engine, no
clock and no thread, and of a group nothing but numbers: what was drawn passes through as it is.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rollout.failures import NoSignal, PromptsExhausted


@dataclass(frozen=True)
class Issue:
    """A prompt that is to be drawn from.

    number  of the admission, from 0; none is used twice
    uid     of the prompt
    round   which hand-out of the source the prompt is of, from 1: where nothing is drawn anew, the step
    version weights of the engines when it was admitted
    """

    number: int
    uid: str
    round: int
    version: int


@dataclass(frozen=True)
class Kept:
    """A group that waits for its batch.

    payload  what was drawn and judged
    oldest   the weight version of its oldest token
    tokens   in all its responses
    """

    issue: Issue
    payload: Any
    oldest: int
    tokens: int


@dataclass(frozen=True)
class Batch:
    """The groups of one step in order of admission, and what became of others since the batch before.

    version       of the learner's weights
    groups        as many as `prompts_per_step`
    admitted      groups
    dropped       groups by the reason of the filter
    stale_tokens  of each group that was too old to be trained on
    """

    version: int
    groups: list[Kept]
    admitted: int
    dropped: Mapping[str, int]
    stale_tokens: list[int]


class GroupStream:
    """The groups of a run, from admission to the batch they are trained in.

    At any weight version v at most (max_staleness + v + 1) x prompts_per_step groups are under way, kept or trained on
    (Fu et al. 2025, arXiv 2505.24298, eq. 3), and never more than `batches` need, but under `oversample`. A dropped
    group gives its place to another.

    in_order     the groups of a batch are admitted once the batch before has been taken, so that batches are in order
                 of admission, whichever ends first: what is trained on does not depend on timings
    drop_stale   a group with a token more than max_staleness versions old is drawn anew, by the weights of then
    max_rounds   the filter may drop (max_rounds - 1) x prompts_per_step groups for one batch
    oversample   1: a dropped group gives its place to another at once. Above, in order only: what is admitted is judged
                 before more is, as many at a time as fill the batch at the share that the filter keeps, at most
                 oversample x prompts_per_step. Engines get whole batches where the filter keeps few, and what is
                 admitted still does not depend on timings
    hand_out     uids of the next round of prompts; none where there are no more
    """

    def __init__(
        self,
        prompts_per_step: int,
        max_staleness: int,
        batches: int,
        in_order: bool,
        drop_stale: bool,
        max_rounds: int,
        oversample: int,
        hand_out: Callable[[], Sequence[str]],
    ):
        self._per_step, self._max_staleness, self._batches = prompts_per_step, max_staleness, batches
        self._in_order, self._drop_stale, self._max_rounds = in_order, drop_stale, max_rounds
        self._oversample, self._hand_out = oversample, hand_out
        self._next, self._round, self._taken = 0, 0, 0
        self._waiting: deque[tuple[str, int]] = deque()
        self._again: deque[Issue] = deque()
        self._under_way: dict[int, Issue] = {}
        self._kept: dict[int, Kept] = {}
        self._exhausted = False
        self._kept_share = 1.0
        # Of what had been admitted together, so much is to be drawn once more after a checkpoint.
        self._unjudged = 0
        self._start_batch()

    @property
    def taken(self) -> int:
        """Batches that have been taken."""
        return self._taken

    @property
    def under_way(self) -> list[Issue]:
        """What has been admitted and is being drawn or judged."""
        return list(self._under_way.values())

    @property
    def kept(self) -> list[Kept]:
        """What waits for a batch, in order of admission."""
        return [self._kept[number] for number in sorted(self._kept)]

    def admit(self, version: int) -> list[Issue]:
        """What is to be drawn now, with the engines at weight `version`."""
        self._look_for_stale(version)
        admitted: list[Issue] = []
        for _ in range(self._room(version)):
            if (issue := self._next_issue(version)) is None:
                break
            self._under_way[issue.number] = issue
            admitted.append(issue)
        self._admitted += len(admitted)
        self._unjudged = 0
        return admitted

    def keep(self, number: int, payload: Any, oldest: int, tokens: int) -> None:
        """The group of issue `number` has been drawn and judged, and can be trained on."""
        self._kept[number] = Kept(self._under_way.pop(number), payload, oldest, tokens)
        self._passed += 1

    def drop(self, number: int, reason: str) -> None:
        """The filter wants nothing of the group of issue `number`. Raises NoSignal where it wanted too few."""
        del self._under_way[number]
        self._dropped[reason] += 1
        dropped = self._dropped.total()
        if dropped > (self._max_rounds - 1) * self._per_step:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self._dropped.most_common())
            raise NoSignal(
                f"the filter dropped {dropped} groups ({reasons}) for one batch of {self._per_step}, and kept "
                f"{len(self._kept)}: rollout.filter.max_rounds = {self._max_rounds} allows no more; take prompts that "
                "the policy solves sometimes, raise max_rounds, or switch the filter off"
            )

    def is_ready(self, version: int) -> bool:
        """Whether `take` has a batch, or PromptsExhausted to raise."""
        self._look_for_stale(version)
        return not self._too_few() or self._is_over()

    def take(self, version: int) -> Batch | None:
        """The next batch for the learner at weight `version`, None as long as there are too few groups.

        Raises PromptsExhausted where there never will be enough.
        """
        self._look_for_stale(version)
        if self._too_few():
            if self._is_over():
                raise PromptsExhausted(
                    f"there are no more prompts, and the {len(self._kept)} groups that were kept are fewer than "
                    f"rollout.prompts_per_step = {self._per_step}"
                )
            return None
        groups = [self._kept.pop(number) for number in sorted(self._kept)[: self._per_step]]
        batch = Batch(version, groups, self._admitted, dict(self._dropped), self._stale_tokens)
        self._taken += 1
        self._kept_share = self._share()
        self._start_batch()
        return batch

    def begin_after(self, batches: int) -> None:
        """Go on after so many batches as if none of them had left anything."""
        self._next, self._round, self._taken = batches * self._per_step, batches, batches

    def state_dict(self) -> dict[str, Any]:
        """JSON values; what is under way is to be drawn once more, and payloads are the caller's to save."""
        return {
            "next": self._next,
            "round": self._round,
            "taken": self._taken,
            "waiting": [list(entry) for entry in self._waiting],
            "again": [asdict(issue) for issue in [*self._under_way.values(), *self._again]],
            "kept": [
                {"issue": asdict(group.issue), "oldest": group.oldest, "tokens": group.tokens} for group in self.kept
            ],
            "unjudged": self._unjudged + len(self._under_way) if self._oversample > 1 else 0,
            "kept_share": self._kept_share,
            "passed": self._passed,
            # What is under way is admitted once more.
            "admitted": self._admitted - len(self._under_way),
            "dropped": dict(self._dropped),
            "stale_tokens": list(self._stale_tokens),
        }

    def load_state_dict(self, state: Mapping[str, Any], payloads: Sequence[Any]) -> None:
        """Go on where `state` was taken; `payloads` of what was kept, in order."""
        self._next, self._round, self._taken = state["next"], state["round"], state["taken"]
        self._waiting = deque((uid, number) for uid, number in state["waiting"])
        self._again = deque(Issue(**issue) for issue in state["again"])
        self._under_way = {}
        kept = [
            Kept(Issue(**entry["issue"]), payload, entry["oldest"], entry["tokens"])
            for entry, payload in zip(state["kept"], payloads, strict=True)
        ]
        self._kept = {group.issue.number: group for group in kept}
        self._kept_share, self._unjudged = state["kept_share"], state["unjudged"]
        self._start_batch()
        self._admitted, self._passed = state["admitted"], state["passed"]
        self._dropped.update(state["dropped"])
        self._stale_tokens.extend(state["stale_tokens"])

    def _start_batch(self) -> None:
        self._admitted, self._passed, self._dropped, self._stale_tokens = 0, 0, Counter[str](), list[int]()

    def _room(self, version: int) -> int:
        batches = min(self._max_staleness + version + 1, self._batches)
        if self._in_order:
            batches = min(batches, self._taken + 1)
        if self._unjudged:
            return self._unjudged
        missing = (batches - self._taken) * self._per_step - len(self._under_way) - len(self._kept)
        if self._oversample == 1 or missing <= 0:
            return missing
        if self._under_way:
            return 0
        return min(math.ceil(missing / self._share()), self._oversample * self._per_step)

    def _too_few(self) -> bool:
        if self._oversample > 1 and (self._under_way or self._unjudged):
            return True
        return len(self._kept) < self._per_step

    def _share(self) -> float:
        """Of judged groups the filter keeps this share: that of the batch so far, with a batch at the share before."""
        judged = self._passed + self._dropped.total()
        return (self._passed + self._kept_share * self._per_step) / (judged + self._per_step)

    def _next_issue(self, version: int) -> Issue | None:
        if self._again:
            # Under its own number: in order of admission nothing else has its place.
            issue = self._again.popleft()
            return Issue(issue.number, issue.uid, issue.round, version)
        if not self._waiting and not self._exhausted:
            self._round += 1
            self._waiting.extend((uid, self._round) for uid in self._hand_out())
            self._exhausted = not self._waiting
        if not self._waiting:
            return None
        uid, number = self._waiting.popleft()
        self._next += 1
        return Issue(self._next - 1, uid, number, version)

    def _look_for_stale(self, version: int) -> None:
        if not self._drop_stale:
            return
        for number, group in sorted(self._kept.items()):
            if version - group.oldest > self._max_staleness:
                self._stale_tokens.append(group.tokens)
                self._again.append(self._kept.pop(number).issue)

    def _is_over(self) -> bool:
        return self._exhausted and not (self._under_way or self._waiting or self._again)
