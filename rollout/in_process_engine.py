"""vLLM's engine stepped by one thread of the actor."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMClientError
from vllm.v1.engine.llm_engine import LLMEngine

from rollout.failures import CalledOff, EngineFailed
from rollout.types import VersionSpan
from rollout.vllm_adapter import (
    SCORING,
    Ended,
    EngineSettings,
    GenerationTimeout,
    completion,
    engine_args,
    prompt_logprobs,
    sampling_params,
    timeout_sentence,
    tokens_prompt,
)


@dataclass
class _Work:
    """One request to vLLM, and its end: vLLM's output and the weights of its tokens.

    known  the name that vLLM gave it
    """

    token_ids: np.ndarray
    params: SamplingParams
    end: Future = field(default_factory=Future)
    spans: list[VersionSpan] = field(default_factory=list)
    known: str = ""


class InProcessEngine:
    """vLLM's engine stepped by one thread; other threads hand it requests and commands.

    From the start of a weight update to its end no step is made. Where updates are taken in flight, requests that run
    stand still meanwhile, and go on with the new weights.
    """

    def __init__(self, settings: EngineSettings):
        self._in_flight, self._recompute_kv = settings.in_flight_updates, settings.recompute_kv
        self._engine = LLMEngine.from_engine_args(engine_args(EngineArgs, settings))
        self._version = 0
        self._next_id = 0
        self._commands: deque[Callable[[], None]] = deque()
        self._running: dict[str, _Work] = {}
        self._wake = threading.Condition()
        self._frozen = False
        self._stopping = False
        self._steps = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name="vllm-steps", daemon=True)
        self._thread.start()

    def generate(self, requests, sampling, deadline_s):
        work = [_Work(r.prompt_token_ids, sampling_params(r, sampling)) for r in requests]
        outputs = self._finish(work, deadline_s)
        return [completion(output, tuple(one.spans)) for output, one in zip(outputs, work, strict=True)]

    def submit(self, requests, sampling):
        work = [_Work(r.prompt_token_ids, sampling_params(r, sampling)) for r, _ in requests]
        for one, (_, ended) in zip(work, requests, strict=True):
            one.end.add_done_callback(partial(_tell, ended, one))
        return self._begin(work)

    def call_off(self, names):
        def give_up():
            left = {name: work for name in names if (work := self._running.pop(name, None))}
            self._engine.abort_request(list(left))
            for work in left.values():
                work.end.set_exception(CalledOff())

        self._enqueue(give_up)

    def score(self, sequences, deadline_s):
        work = [_Work(s, SCORING) for s in sequences]
        return [prompt_logprobs(output) for output in self._finish(work, deadline_s)]

    def init_weight_transfer(self, init_info, timeout_s):
        self._rpc("init_weight_transfer_engine", {"init_info": init_info}, timeout_s)

    def start_weight_update(self, timeout_s):
        def start():
            self._frozen = True
            self._engine.collective_rpc("start_weight_update")

        self._call(self._permitted(start), timeout_s)

    def update_weights(self, update_info, timeout_s):
        self._rpc("update_weights", {"update_info": update_info}, timeout_s)

    def finish_weight_update(self, version, timeout_s):
        def finish():
            self._engine.collective_rpc("finish_weight_update")
            self._version = version
            begun = {key: work for key, work in self._running.items() if self._drawn(work)}
            # A prompt that waits would else find keys and values of the weights it was asked for under.
            self._begin_anew({key: work for key, work in self._running.items() if key not in begun})
            for work in begun.values():
                if work.spans[-1].version != version:
                    work.spans.append(VersionSpan(self._drawn(work), version))
            if self._recompute_kv or not begun:
                self._reset_cache()
            self._frozen = False

        self._call(self._permitted(finish), timeout_s)

    def weight_version(self):
        return self._version

    def sleep(self, level, timeout_s):
        def sleep():
            if self._running:
                raise EngineFailed(f"the engine cannot sleep while {len(self._running)} requests run")
            self._engine.sleep(level)

        self._call(sleep, timeout_s)

    def wake_up(self, tag, timeout_s):
        return self._call(lambda: self._engine.wake_up([tag]), timeout_s)

    def progress(self):
        if self._failure is not None:
            raise EngineFailed(f"the engine stopped earlier: {self._failure}")
        return self._steps

    def shutdown(self):
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=30)
        self._engine.engine_core.shutdown()

    def _drawn(self, work: _Work) -> int:
        """How many tokens a running request has."""
        detokenizer = self._engine.output_processor.request_states[work.known].detokenizer
        assert detokenizer is not None
        return detokenizer.num_output_tokens()

    def _begin_anew(self, waiting: dict[str, _Work]) -> None:
        self._engine.abort_request(list(waiting))
        for key, work in waiting.items():
            del self._running[key]
            self._add(key, work)

    def _add(self, key: str, work: _Work) -> None:
        try:
            prompt = tokens_prompt(work.token_ids, self._version)
            work.known = self._engine.add_request(key, prompt, work.params)
        except VLLMClientError as error:
            # vLLM refuses a request it cannot serve (a prompt past the context); the others go on.
            work.end.set_exception(error)
        else:
            work.spans = [VersionSpan(0, self._version)]
            self._running[key] = work

    def _reset_cache(self) -> None:
        """Forget keys and values; requests that run go back into the queue, and theirs are computed anew."""
        if not self._engine.reset_prefix_cache(reset_running_requests=bool(self._running)):
            raise EngineFailed("vLLM kept its prefix cache although no request runs")

    def _rpc(self, method: str, kwargs: dict[str, Any], timeout_s: float) -> None:
        self._call(self._permitted(lambda: self._engine.collective_rpc(method, kwargs=kwargs)), timeout_s)

    def _permitted(self, action: Callable[[], Any]) -> Callable[[], Any]:
        def guarded():
            if self._running and not self._in_flight:
                raise EngineFailed(f"weights cannot change while {len(self._running)} requests run")
            return action()

        return guarded

    def _call(self, action: Callable[[], Any], timeout_s: float) -> Any:
        """Run `action` on the stepping thread, between two steps."""
        future: Future = Future()

        def command():
            try:
                future.set_result(action())
            except BaseException as error:  # noqa: BLE001 - handed to the caller that waits for it
                future.set_exception(error)

        self._enqueue(command)
        try:
            return future.result(timeout_s)
        except FutureTimeout:
            raise EngineFailed(f"the engine did not take a command between two steps in {timeout_s:.0f} s") from None

    def _begin(self, work: list[_Work]) -> list[str]:
        """Have all of `work` begun before the next step; their names."""
        with self._wake:
            first = self._next_id
            self._next_id += len(work)

        def add():
            for name, one in zip(names, work, strict=True):
                self._add(name, one)

        names = [str(first + i) for i in range(len(work))]
        self._enqueue(add)
        return names

    def _finish(self, work: list[_Work], deadline_s: float) -> list[Any]:
        """Run all of `work` to its end and return vLLM's outputs in order."""
        self._begin(work)
        ends = {one.end for one in work}

        def abort():
            left = [key for key, one in self._running.items() if one.end in ends]
            for key in left:
                del self._running[key]
            self._engine.abort_request(left)

        _, unfinished = wait(ends, timeout=deadline_s)
        if unfinished:
            self._enqueue(abort)  # raises what stopped the engine, if it stopped before it took the requests
            raise GenerationTimeout(timeout_sentence(len(unfinished), len(work), deadline_s))
        return [one.end.result() for one in work]

    def _enqueue(self, command: Callable[[], None]) -> None:
        with self._wake:
            if self._failure is not None:
                raise EngineFailed(f"the engine stopped earlier: {self._failure}")
            self._commands.append(command)
            self._wake.notify()

    def _loop(self) -> None:
        try:
            while True:
                with self._wake:
                    while not (self._commands or self._stopping or (self._running and not self._frozen)):
                        self._wake.wait()
                    if self._stopping:
                        return
                    commands = list(self._commands)
                    self._commands.clear()
                for command in commands:
                    command()
                if self._running and not self._frozen:
                    outputs = self._engine.step()
                    self._steps += 1
                    for output in outputs:
                        if output.finished:
                            self._running.pop(output.request_id).end.set_result(output)
        except BaseException as error:
            # Whoever waits must see it: a thread that dies silently leaves its callers hanging.
            with self._wake:
                self._failure = error
            for work in self._running.values():
                work.end.set_exception(EngineFailed(f"{type(error).__name__}: {error}"))
            raise


def _tell(ended: Ended, work: _Work, end: Future) -> None:
    error = end.exception(timeout=0)
    ended(error or completion(end.result(timeout=0), tuple(work.spans)))
