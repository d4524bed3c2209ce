"""Draws groups and has them judged while the learner trains: a thin shell around `GroupStream`, with one thread."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Any

from rollout.assignments import Assignments
from rollout.calls import Answer, Engines
from rollout.difficulty import Difficulty
from rollout.engine_times import EngineTimes
from rollout.failures import NoProgress
from rollout.garbage import garbage
from rollout.groups import Drawn, Group, Judge, Judged
from rollout.seeds import keyed_hash, request_seed
from rollout.stragglers import Stragglers
from rollout.stream import Batch, GroupStream
from rollout.types import GenerationRequest, Key, Prompt, Response

# How long it waits for engines, or for something to change, before it looks around again.
COLLECT_S, LOOK_S = 0.1, 1.0
# Groups that end together are judged in one call; so many calls go on at a time, because one of them may be slow.
JUDGES = 4


class Collector:
    """Keeps engines busy with what `stream` admits, and brings it what they have drawn.

    prompt     of a uid
    judge      called on threads of its own, several calls at a time
    in_flight  weights change in the middle of drawing; else nothing is drawn then, and groups are admitted from the
               wait for a batch on until its successor has been drawn
    version    of the weights that the engines have
    deadline_s the longest a wait may take
    stragglers tells what idle engines are to draw too; None where they are not to

    Everything public is for one thread, the one that trains: engines are replaced there, because only there it is known
    that the learner can send weights.
    """

    def __init__(
        self,
        engines: Engines,
        stream: GroupStream,
        prompt: Callable[[str], Prompt],
        samples: int,
        seed: int,
        judge: Judge,
        in_flight: bool,
        version: int,
        deadline_s: float,
        stragglers: Stragglers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._engines, self._stream, self._prompt = engines, stream, prompt
        self._samples, self._seed, self._judge = samples, seed, judge
        self._in_flight, self._version = in_flight, version
        self._deadline_s, self._stragglers, self._clock = deadline_s, stragglers, clock
        self.difficulty = Difficulty()
        count = len(engines)
        self._changed = Condition()
        self._groups: dict[int, Group] = {}
        self._judging: set[int] = set()
        self._assigned = Assignments(count)
        self._incarnations = [engines.incarnation(engine) for engine in range(count)]
        self._down: dict[int, str] = {}
        self._open, self._changing, self._closing = in_flight, False, False
        self._replacing = False
        self._whole = True
        self._failure: BaseException | None = None
        self._times = EngineTimes(count, clock)
        self._judges = ThreadPoolExecutor(JUDGES, thread_name_prefix="judge")
        self._thread = Thread(target=self._loop, name="rollout", daemon=True)

    def start(self) -> None:
        """Begin to draw, in asynchronous mode at once."""
        self._thread.start()

    def close(self) -> None:
        """Draw no more. Engines are left as they are."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._judges.shutdown(wait=False, cancel_futures=True)
        if self._thread.ident is not None:
            self._thread.join(timeout=10 * LOOK_S)

    def wait_drawn(self) -> None:
        """Wait until the next batch is there, or nothing is being drawn, and only verdicts are waited for."""
        with self._changed:
            self._open = True
            self._feed()
            self._changed.notify_all()
        self._wait(lambda: not self._drawing() or self._batch_is_there(), refresh=True)

    def wait_judged(self) -> Batch | None:
        """The next batch; None where groups were dropped, and others are being drawn for them."""

        def judged() -> bool:
            return bool(self._batch_is_there() or not self._judging or self._drawing())

        self._wait(judged, refresh=True)
        with self._changed:
            batch = self._stream.take(self._version)
            if batch:
                if self._whole:
                    self._engines.whole_rollout()
                self._whole = True
                self.difficulty.settle()
                self._feed()
                self._changed.notify_all()
            return batch

    def settle(self) -> None:
        """Where weights change between batches only, wait until nothing is being drawn or judged."""
        if self._in_flight:
            return
        self._wait(lambda: not self._judging and not self._busy(), refresh=False)
        with self._changed:
            self._open = False

    @contextmanager
    def weights_change(self, version: int) -> Iterator[None]:
        """Within it, all engines get the weights of `version`; those that were lost are there again before."""
        self.settle()
        with self._changed:
            self._changing = True
            lost = dict(self._down)
        if lost:
            self._engines.replace(lost)
            self._engines.connect()
        yield
        with self._changed:
            self._changing, self._version = False, version
        self._acknowledge()

    def figures(self) -> dict[str, float]:
        """How engines spent their time since the last call, what waits, in groups, and how hard prompts have been."""
        with self._changed:
            self._account()
            waiting = {"buffer/kept": len(self._stream.kept), "buffer/under_way": len(self._stream.under_way)}
            hedges = self._stragglers.row() if self._stragglers else {}
            return self._times.row() | waiting | self.difficulty.metrics() | hedges

    def rates(self) -> list[float]:
        """The mean pass rates of all prompts that had been drawn when the last batch was taken."""
        with self._changed:
            return self.difficulty.rates()

    def state_dict(self, prompts: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], list[Drawn]]:
        """JSON values, and the groups that wait for a batch, to be saved with them.

        prompts  the state of what hands out prompts, asked for while none are handed out
        """
        with self._changed:
            state = {
                "stream": self._stream.state_dict(),
                "difficulty": self.difficulty.state_dict(),
                "prompts": prompts(),
            }
            return state, [group.payload for group in self._stream.kept]

    def load_state_dict(self, state: dict[str, Any], kept: Sequence[Drawn]) -> None:
        """Go on where `state` was taken; before `start`."""
        self._stream.load_state_dict(state["stream"], kept)
        self.difficulty.load_state_dict(state["difficulty"])

    def _batch_is_there(self) -> bool:
        return self._stream.is_ready(self._version)

    def _drawing(self) -> bool:
        """Whether responses are waited for, of lost engines too."""
        return any(self._assigned.wanted(engine) for engine in range(len(self._assigned)))

    def _missed(self) -> bool:
        """Whether an engine is lost with responses that nobody else draws, or that another one may yet end first."""
        return any(self._assigned.wanted(engine) for engine in self._down)

    def _busy(self) -> list[int]:
        """Engines that are not lost and owe answers."""
        return [engine for engine in self._assigned.owing() if engine not in self._down]

    # The thread that trains.

    def _wait(self, done: Callable[[], bool], refresh: bool) -> None:
        """Wait for `done`, which is called with the lock held. With `refresh`, lost engines are replaced meanwhile."""
        self._acknowledge()
        deadline = self._clock() + self._deadline_s
        while True:
            lost: dict[int, str] = {}
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if done():
                    return
                # Where weights change between batches only, the others first have to end what they draw.
                if refresh and self._missed() and (self._in_flight or not self._busy()):
                    lost = dict(self._down)
                    # Verdicts may yet drop groups, and nothing may be drawn for them where weights cannot change then.
                    self._replacing = not self._in_flight
                elif (left_s := deadline - self._clock()) <= 0:
                    raise NoProgress(self._standstill())
                else:
                    self._changed.wait(min(LOOK_S, left_s))
            if lost:
                self._whole = False
                self._engines.replace(lost)
                self._engines.refresh()
                with self._changed:
                    self._replacing = False
                self._acknowledge()
                deadline = self._clock() + self._deadline_s

    def _acknowledge(self) -> None:
        """Engines that were replaced have their weights: what was lost with those before is issued once more."""
        with self._changed:
            for engine in range(len(self._assigned)):
                incarnation = self._engines.incarnation(engine)
                if incarnation == self._incarnations[engine]:
                    continue
                self._incarnations[engine] = incarnation
                self._down.pop(engine, None)
                self._submit(engine, self._assigned.renew(engine))
            self._feed()
            self._changed.notify_all()

    def _standstill(self) -> str:
        drawn = ", ".join(
            f"engine {engine} {'lost' if engine in self._down else 'draws'} {self._assigned.owed(engine)}"
            for engine in self._assigned.owing()
        )
        # What became of engines comes before what follows from it.
        causes = "".join(f"{self._down[engine]} " for engine in sorted(self._down))
        return (
            f"{causes}{'So there was ' if causes else ''}"
            f"no batch after {self._deadline_s:g} s (rollout.deadline_s): responses not there yet: "
            f"{drawn or 'none'}; groups without verdicts: {len(self._judging)}; groups that wait for their batch: "
            f"{len(self._stream.kept)}"
        )

    # The lock is held.

    def _feed(self) -> None:
        """Deal what is admitted over the engines, in the order of a hash of (uid, sample); who has least gets first."""
        if not self._open or self._replacing or self._closing or self._failure:
            return
        issues = self._stream.admit(self._version)
        if not issues:
            return
        self._account()
        requests: dict[Key, GenerationRequest] = {}
        for issue in issues:
            prompt = self._prompt(issue.uid)
            self._groups[issue.number] = Group(issue, prompt)
            for sample in range(self._samples):
                seed = request_seed(self._seed, issue.round, issue.uid, sample)
                requests[issue.number, sample] = GenerationRequest(issue.uid, sample, prompt.token_ids, seed)
        order = sorted(requests, key=lambda key: keyed_hash(requests[key].uid, requests[key].sample))
        engines = [engine for engine in range(len(self._engines)) if engine not in self._down]
        engines = sorted(engines or range(len(self._engines)), key=self._assigned.owed)
        for place, engine in enumerate(engines):
            share = {key: requests[key] for key in order[place :: len(engines)]}
            self._assigned.give(engine, share)
            if engine not in self._down:
                self._submit(engine, share)

    def _submit(self, engine: int, requests: dict[Key, GenerationRequest]) -> None:
        if not requests:
            return
        if self._stragglers:
            self._stragglers.begun(requests, self._clock())
        self._engines.submit(engine, self._incarnations[engine], requests)

    def _hedge(self) -> None:
        """Have idle engines draw what takes too long elsewhere, with the same seeds.

        Not while an engine is lost: it gets weights only when the others draw nothing.
        """
        if self._stragglers is None or self._down or self._changing:
            return
        idle = [engine for engine in range(len(self._assigned)) if not self._assigned.owed(engine)]
        if not idle:
            return
        late = {key: found for key in self._stragglers.late(self._clock()) if (found := self._assigned.alone(key))}
        for place, engine in enumerate(idle):
            share = {key: late[key] for key in list(late)[place :: len(idle)]}
            if share:
                self._assigned.give(engine, share)
                self._stragglers.hedged(share, engine)
                self._engines.submit(engine, self._incarnations[engine], share)

    def _count(self, engine: int, key: Key) -> None:
        """The engine's answer is the first; whoever else draws the response is called off."""
        for other in self._assigned.answer(engine, key):
            if other not in self._down:
                self._engines.call_off(other, self._incarnations[other], [key])
        if self._stragglers:
            self._stragglers.ended(key, engine, self._clock())

    def _account(self) -> None:
        self._times.spent([bool(self._assigned.owed(engine)) for engine in range(len(self._assigned))])

    def _heard(self, answer: Answer) -> list[Group]:
        """Take in what an engine has said; the groups that are complete with it."""
        engine = answer.engine
        if answer.incarnation != self._incarnations[engine]:
            return []
        complete = []
        for key, response in answer.ended:
            if self._assigned.give_up(engine, key):
                continue
            if problem := garbage(self._assigned.request(engine, key), response):
                self._down[engine] = f"engine {engine} returned garbage: {problem}. See logs/engine-{engine}.log."
                break
            assert response is not None
            self._count(engine, key)
            self._times.drew(engine, len(response.token_ids))
            group = self._groups[key[0]]
            group.found[key[1]] = response
            if len(group.found) == self._samples:
                complete.append(group)
                self._judging.add(key[0])
        if answer.lost:
            self._down[engine] = answer.lost
        return complete

    # Threads of its own.

    def _loop(self) -> None:
        try:
            while True:
                with self._changed:
                    self._feed()
                    while not (busy := self._busy()) and not self._closing:
                        self._changed.wait(LOOK_S)
                    if self._closing:
                        return
                    watched = not self._changing
                answers = self._engines.collect(busy, COLLECT_S, watched)
                with self._changed:
                    self._account()
                    complete = [group for answer in answers for group in self._heard(answer)]
                    self._hedge()
                    if complete and not self._closing:
                        self._judges.submit(self._have_judged, complete)
                    if answers:
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001  raised by the thread that trains
            self._fail(error)

    def _have_judged(self, groups: list[Group]) -> None:
        try:
            responses = [[group.found[sample] for sample in range(self._samples)] for group in groups]
            found = self._judge([group.prompt for group in groups], responses)
            with self._changed:
                for group, drawn, judged in zip(groups, responses, found, strict=True):
                    self._end(group, drawn, judged)
                self._feed()
                self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001  raised by the thread that trains
            self._fail(error)

    def _end(self, group: Group, responses: list[Response], judged: Judged) -> None:
        number = group.issue.number
        del self._groups[number]
        self._judging.discard(number)
        self.difficulty.add(group.issue.uid, judged.right, judged.judged)
        if judged.dropped is not None:
            self._stream.drop(number, judged.dropped)
            return
        oldest = min(response.versions[0].version for response in responses)
        tokens = sum(len(response.token_ids) for response in responses)
        self._stream.keep(number, Drawn(group.prompt, responses, judged.payload), oldest, tokens)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
