"""`AsyncLLM`: vLLM with its engine core in a process of its own."""

import asyncio
import threading
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import numpy as np
from vllm import SamplingParams
from vllm.distributed.weight_transfer.base import (
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs import TokensPrompt
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

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


class SeparateProcessEngine:
    """`AsyncLLM` on an event loop of its own thread."""

    def __init__(self, settings: EngineSettings):
        self._version = 0
        self._next_id = 0
        self._running = 0
        self._asked = 0
        self._tasks: dict[str, asyncio.Task] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm-async", daemon=True).start()
        self._engine = self._run(self._open(settings), None)

    async def _open(self, settings: EngineSettings) -> AsyncLLM:
        # Built on the loop, because AsyncLLM binds its output handler to the running loop.
        return AsyncLLM.from_engine_args(engine_args(AsyncEngineArgs, settings))

    def generate(self, requests, sampling, deadline_s):
        spans = (VersionSpan(0, self._version),)
        work = [(self._prompt(r.prompt_token_ids), sampling_params(r, sampling)) for r in requests]
        return [completion(output, spans) for output in self._finish(work, deadline_s)]

    def submit(self, requests, sampling):
        spans = (VersionSpan(0, self._version),)

        async def one(key: str, request: Any, ended: Ended) -> None:
            try:
                output = await self._last(
                    key, self._prompt(request.prompt_token_ids), sampling_params(request, sampling)
                )
                ended(completion(output, spans))
            except asyncio.CancelledError:
                # vLLM has given it up on the way here.
                ended(CalledOff())
            except EngineDeadError as error:
                ended(EngineFailed(f"the engine process stopped: {error}"))
            except Exception as error:  # noqa: BLE001  handed on
                ended(error)
            finally:
                self._running -= 1
                del self._tasks[key]

        async def begin() -> list[str]:
            self._running += len(requests)
            keys = self._keys(len(requests))
            for key, (request, ended) in zip(keys, requests, strict=True):
                # The loop itself keeps no task alive.
                self._tasks[key] = asyncio.create_task(one(key, request, ended))
            return keys

        return self._run(begin(), None)

    def call_off(self, names):
        async def give_up() -> None:
            for name in names:
                if task := self._tasks.get(name):
                    task.cancel()

        self._run(give_up(), None)

    def score(self, sequences, deadline_s):
        work = [(self._prompt(s), SCORING) for s in sequences]
        return [prompt_logprobs(output) for output in self._finish(work, deadline_s)]

    def init_weight_transfer(self, init_info, timeout_s):
        self._run(self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info)), timeout_s)

    def start_weight_update(self, timeout_s):
        if self._running:
            raise EngineFailed(f"weights cannot change while {self._running} requests run")
        self._run(self._engine.start_weight_update(), timeout_s)

    def update_weights(self, update_info, timeout_s):
        self._run(self._engine.update_weights(WeightTransferUpdateRequest(update_info)), timeout_s)

    def finish_weight_update(self, version, timeout_s):
        async def finish():
            await self._engine.finish_weight_update(str(version))
            return await self._engine.reset_prefix_cache()

        if not self._run(finish(), timeout_s):
            raise EngineFailed("vLLM kept its prefix cache although no request runs")
        self._version = version

    def weight_version(self):
        return self._version

    def sleep(self, level, timeout_s):
        if self._running:
            raise EngineFailed(f"the engine cannot sleep while {self._running} requests run")
        self._run(self._engine.sleep(level), timeout_s)

    def wake_up(self, tag, timeout_s):
        return self._run(self._engine.wake_up([tag]), timeout_s)

    def progress(self):
        # vLLM tells of a request only when it has ended, so that an answer is all there is to hear of the process.
        self._asked += 1
        if self._engine.errored:
            raise EngineFailed(f"the engine process stopped: {self._engine.dead_error}")
        return self._asked

    def shutdown(self):
        async def stop():
            self._engine.shutdown()

        self._run(stop(), 30)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, coroutine: Any, timeout_s: float | None) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except FutureTimeout:
            if future.done():
                raise
            future.cancel()
            raise EngineFailed(f"the engine process did not answer in {timeout_s:.0f} s") from None

    def _prompt(self, token_ids: np.ndarray) -> TokensPrompt:
        return tokens_prompt(token_ids, self._version)

    def _keys(self, count: int) -> list[str]:
        """New names; on the loop."""
        first = self._next_id
        self._next_id += count
        return [str(first + i) for i in range(count)]

    async def _last(self, key: str, prompt: TokensPrompt, params: SamplingParams) -> Any:
        last = None
        async for output in self._engine.generate(prompt, params, key):
            last = output
        return last

    def _finish(self, work: list[tuple[TokensPrompt, SamplingParams]], deadline_s: float) -> list[Any]:
        async def everything() -> list[Any]:
            self._running += len(work)
            calls = [self._last(key, *item) for key, item in zip(self._keys(len(work)), work, strict=True)]
            try:
                return await asyncio.wait_for(asyncio.gather(*calls), deadline_s)
            finally:
                self._running -= len(work)

        try:
            return self._run(everything(), None)
        except EngineDeadError as error:
            raise EngineFailed(f"the engine process stopped: {error}") from None
        except TimeoutError:
            raise GenerationTimeout(timeout_sentence(None, len(work), deadline_s)) from None
