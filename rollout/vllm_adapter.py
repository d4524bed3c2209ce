"""vLLM behind one interface; besides `host_transfer`, which plugs into vLLM, the only file that imports it.

`InProcessEngine` steps vLLM's engine on a thread of the actor: fastest where Python scheduling rules, as on CPU.
`SeparateProcessEngine` is `AsyncLLM`, whose engine core lives in a process of its own: the right one on GPUs.
Both are thread-safe, answer `generate` and `score` in request order, and change weights only while no request runs.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from vllm import SamplingParams
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.base import (
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs import TokensPrompt
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.llm_engine import LLMEngine

from rollout.failures import EngineFailed
from rollout.host_transfer import register_host_backend
from rollout.transports import allow_memory_handles
from rollout.types import FinishReason, GenerationRequest, Sampling


class GenerationTimeout(RuntimeError):
    """Requests did not finish within their deadline and were aborted."""


@dataclass(frozen=True)
class EngineSettings:
    """What both engines need to start. `context_tokens` bounds prompt plus response."""

    model_path: str
    dtype: str
    context_tokens: int
    device: str
    max_sequences: int
    kv_cache_blocks: int | None
    gpu_memory_utilization: float
    tensor_parallel_size: int
    enforce_eager: bool
    weight_transfer: str
    trust_remote_code: bool


@dataclass(frozen=True)
class Completion:
    """Tokens drawn for one request, and their log-probabilities at the sampling temperature [response tokens]."""

    token_ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: FinishReason


class Engine(Protocol):
    """What the rollout actor asks of an engine."""

    def generate(
        self, requests: Sequence[GenerationRequest], sampling: Sampling, deadline_s: float
    ) -> list[Completion]: ...

    def score(self, sequences: Sequence[np.ndarray], deadline_s: float) -> list[np.ndarray]:
        """Log-probabilities at temperature 1 of the tokens of each sequence after its first: [tokens - 1]."""
        ...

    def init_weight_transfer(self, init_info: dict[str, Any], timeout_s: float) -> None: ...

    def start_weight_update(self, timeout_s: float) -> None: ...

    def update_weights(self, update_info: dict[str, Any], timeout_s: float) -> None: ...

    def finish_weight_update(self, version: int, timeout_s: float) -> None: ...

    def weight_version(self) -> int: ...

    def progress(self) -> int:
        """A figure that changes as long as the engine gets further. Raises EngineFailed where it has stopped."""
        ...

    def shutdown(self) -> None: ...


def open_engine(adapter: str, settings: EngineSettings) -> Engine:
    """Start the engine named by `adapter`: `in_process` or `async`."""
    register_host_backend()
    if settings.weight_transfer == "ipc":
        allow_memory_handles()
    if adapter == "in_process":
        return InProcessEngine(settings)
    if adapter == "async":
        return SeparateProcessEngine(settings)
    raise ValueError(f"rollout.adapter is in_process or async here, not {adapter!r}")


def _engine_args(args_class: type, settings: EngineSettings) -> Any:
    # A prefill that is split over steps breaks per-request seeds on CPU ("CPU Generator does not use offset"), so a
    # step must take whole prompts: no chunked prefill, and room for at least one full context.
    return args_class(
        model=settings.model_path,
        dtype=settings.dtype,
        load_format="safetensors",  # the other form is a pickle
        max_model_len=settings.context_tokens,
        max_num_seqs=settings.max_sequences,
        max_num_batched_tokens=max(8192, settings.context_tokens),
        enable_chunked_prefill=False,
        num_gpu_blocks_override=settings.kv_cache_blocks,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        tensor_parallel_size=settings.tensor_parallel_size,
        # In a placement group vLLM would ask Ray for workers; the GPUs of this actor are all on its node.
        distributed_executor_backend="mp" if settings.tensor_parallel_size > 1 else None,
        enforce_eager=settings.enforce_eager,
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
        weight_transfer_config=WeightTransferConfig(backend=settings.weight_transfer),
        trust_remote_code=settings.trust_remote_code,
        disable_log_stats=True,
    )


def _sampling_params(request: GenerationRequest, sampling: Sampling) -> SamplingParams:
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        max_tokens=sampling.max_new_tokens,
        seed=request.seed,
        logprobs=0,
        flat_logprobs=True,
        detokenize=bool(sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


_SCORING = SamplingParams(
    temperature=0.0,
    max_tokens=1,
    prompt_logprobs=0,
    flat_logprobs=True,
    detokenize=False,
    output_kind=RequestOutputKind.FINAL_ONLY,
)


def _completion(output: Any) -> Completion:
    drawn = output.outputs[0]
    return Completion(
        np.asarray(drawn.token_ids, np.int32),
        np.asarray(drawn.logprobs.logprobs, np.float32),
        FinishReason(drawn.finish_reason),
    )


def _prompt_logprobs(output: Any) -> np.ndarray:
    return np.asarray(output.prompt_logprobs.logprobs, np.float32)


def _tokens(ids: np.ndarray) -> TokensPrompt:
    return TokensPrompt(prompt_token_ids=ids.tolist())


class InProcessEngine:
    """vLLM's engine stepped by one thread; other threads hand it requests and commands."""

    def __init__(self, settings: EngineSettings):
        self._engine = LLMEngine.from_engine_args(_engine_args(EngineArgs, settings))
        self._version = 0
        self._next_id = 0
        self._commands: deque[Callable[[], None]] = deque()
        self._running: dict[str, Future] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._steps = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name="vllm-steps", daemon=True)
        self._thread.start()

    def generate(self, requests, sampling, deadline_s):
        work = [(_tokens(r.prompt_token_ids), _sampling_params(r, sampling)) for r in requests]
        return [_completion(output) for output in self._finish(work, deadline_s)]

    def score(self, sequences, deadline_s):
        work = [(_tokens(s), _SCORING) for s in sequences]
        return [_prompt_logprobs(output) for output in self._finish(work, deadline_s)]

    def init_weight_transfer(self, init_info, timeout_s):
        self._rpc("init_weight_transfer_engine", {"init_info": init_info}, timeout_s)

    def start_weight_update(self, timeout_s):
        self._rpc("start_weight_update", {}, timeout_s)

    def update_weights(self, update_info, timeout_s):
        self._rpc("update_weights", {"update_info": update_info}, timeout_s)

    def finish_weight_update(self, version, timeout_s):
        def finish():
            self._engine.collective_rpc("finish_weight_update")
            if not self._engine.reset_prefix_cache():
                raise EngineFailed("vLLM kept its prefix cache although no request runs")
            self._version = version

        self._call(self._idle(finish), timeout_s)

    def weight_version(self):
        return self._version

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

    def _rpc(self, method: str, kwargs: dict[str, Any], timeout_s: float) -> None:
        self._call(self._idle(lambda: self._engine.collective_rpc(method, kwargs=kwargs)), timeout_s)

    def _idle(self, action: Callable[[], Any]) -> Callable[[], Any]:
        def guarded():
            if self._running:
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

    def _finish(self, work: list[tuple[TokensPrompt, SamplingParams]], deadline_s: float) -> list[Any]:
        """Run every (prompt, parameters) to its end and return vLLM's outputs in order."""
        futures: dict[str, Future] = {}
        with self._wake:
            for _ in work:
                self._next_id += 1
                futures[str(self._next_id)] = Future()

        def add():
            for (prompt, params), (key, future) in zip(work, futures.items(), strict=True):
                try:
                    self._engine.add_request(key, prompt, params)
                except VLLMClientError as error:
                    # vLLM refuses a request it cannot serve (a prompt past the context); the others go on.
                    future.set_exception(error)
                else:
                    self._running[key] = future

        def abort():
            left = [key for key in futures if self._running.pop(key, None) is not None]
            self._engine.abort_request(left)

        self._enqueue(add)
        _, unfinished = wait(futures.values(), timeout=deadline_s)
        if unfinished:
            self._enqueue(abort)  # raises what stopped the engine, if it stopped before it took the requests
            raise GenerationTimeout(_timeout_sentence(len(unfinished), len(work), deadline_s))
        return [future.result() for future in futures.values()]

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
                    while not (self._commands or self._running or self._stopping):
                        self._wake.wait()
                    if self._stopping:
                        return
                    commands = list(self._commands)
                    self._commands.clear()
                for command in commands:
                    command()
                if self._running:
                    outputs = self._engine.step()
                    self._steps += 1
                    for output in outputs:
                        if output.finished:
                            self._running.pop(output.request_id).set_result(output)
        except BaseException as error:
            # Whoever waits must see it: a thread that dies silently leaves its callers hanging.
            with self._wake:
                self._failure = error
            for future in self._running.values():
                future.set_exception(EngineFailed(f"{type(error).__name__}: {error}"))
            raise


class SeparateProcessEngine:
    """`AsyncLLM` on an event loop of its own thread."""

    def __init__(self, settings: EngineSettings):
        self._version = 0
        self._next_id = 0
        self._running = 0
        self._asked = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm-async", daemon=True).start()
        self._engine = self._run(self._open(settings), None)

    async def _open(self, settings: EngineSettings) -> AsyncLLM:
        # Built on the loop, because AsyncLLM binds its output handler to the running loop.
        return AsyncLLM.from_engine_args(_engine_args(AsyncEngineArgs, settings))

    def generate(self, requests, sampling, deadline_s):
        work = [(_tokens(r.prompt_token_ids), _sampling_params(r, sampling)) for r in requests]
        return [_completion(output) for output in self._finish(work, deadline_s)]

    def score(self, sequences, deadline_s):
        work = [(_tokens(s), _SCORING) for s in sequences]
        return [_prompt_logprobs(output) for output in self._finish(work, deadline_s)]

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

    def _finish(self, work: list[tuple[TokensPrompt, SamplingParams]], deadline_s: float) -> list[Any]:
        async def one(key: str, prompt: TokensPrompt, params: SamplingParams) -> Any:
            last = None
            async for output in self._engine.generate(prompt, params, key):
                last = output
            return last

        async def everything() -> list[Any]:
            self._running += len(work)
            first = self._next_id
            self._next_id += len(work)
            try:
                return await asyncio.wait_for(
                    asyncio.gather(*(one(str(first + i), *item) for i, item in enumerate(work))), deadline_s
                )
            finally:
                self._running -= len(work)

        try:
            return self._run(everything(), None)
        except EngineDeadError as error:
            raise EngineFailed(f"the engine process stopped: {error}") from None
        except TimeoutError:
            raise GenerationTimeout(_timeout_sentence(None, len(work), deadline_s)) from None


def _timeout_sentence(unfinished: int | None, total: int, deadline_s: float) -> str:
    share = f"{total} requests" if unfinished is None else f"{unfinished} of {total} requests"
    return f"{share} did not finish in {deadline_s:.0f} s; raise rollout.deadline_s or lower rollout.max_new_tokens"
