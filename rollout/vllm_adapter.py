"""vLLM behind one interface: what both engines share.

`InProcessEngine` steps vLLM's engine on a thread of the actor: fastest where Python scheduling rules, as on CPU.
`SeparateProcessEngine` is `AsyncLLM`, whose engine core lives in a process of its own: the right one on GPUs.
Besides these files only `host_transfer`, which plugs into vLLM, imports it. Both engines are thread-safe and answer
`generate` and `score` in request order. Weights change while no request runs, or between two steps where the engine
takes updates in flight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from vllm import SamplingParams
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.inputs import TokensPrompt
from vllm.sampling_params import RequestOutputKind

from rollout.host_transfer import register_host_backend
from rollout.transports import allow_memory_handles
from rollout.types import FinishReason, GenerationRequest, Sampling, VersionSpan


class GenerationTimeout(RuntimeError):
    """Requests did not finish within their deadline and were aborted."""


@dataclass(frozen=True)
class EngineSettings:
    """What both engines need to start.

    context_tokens     bounds prompt plus response
    sleeps             the engine leaves its GPU when it is told to
    in_flight_updates  weights change between two steps, and what is being drawn goes on
    recompute_kv       what is being drawn then goes on from keys and values of the new weights
    """

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
    sleeps: bool
    in_flight_updates: bool
    recompute_kv: bool


@dataclass(frozen=True)
class Completion:
    """Tokens drawn for one request, their log-probabilities at the sampling temperature [response tokens], and the
    weights that drew them."""

    token_ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: FinishReason
    versions: tuple[VersionSpan, ...]


# Told of each request that has ended, on a thread of the engine's: with what was drawn, or with what went wrong.
Ended = Callable[[Completion | BaseException], None]


class Engine(Protocol):
    """What the rollout actor asks of an engine."""

    def generate(
        self, requests: Sequence[GenerationRequest], sampling: Sampling, deadline_s: float
    ) -> list[Completion]: ...

    def submit(self, requests: Sequence[tuple[GenerationRequest, Ended]], sampling: Sampling) -> list[str]:
        """Begin to draw; all of them are in the engine's queue before its next step. Their names, for `call_off`."""
        ...

    def call_off(self, names: Sequence[str]) -> None:
        """Draw no further what is known by `names`: it ends with CalledOff, unless it has ended before."""
        ...

    def score(self, sequences: Sequence[np.ndarray], deadline_s: float) -> list[np.ndarray]:
        """Log-probabilities at temperature 1 of the tokens of each sequence after its first: [tokens - 1]."""
        ...

    def init_weight_transfer(self, init_info: dict[str, Any], timeout_s: float) -> None: ...

    def start_weight_update(self, timeout_s: float) -> None: ...

    def update_weights(self, update_info: dict[str, Any], timeout_s: float) -> None: ...

    def finish_weight_update(self, version: int, timeout_s: float) -> None: ...

    def weight_version(self) -> int: ...

    def sleep(self, level: int, timeout_s: float) -> None:
        """Leave GPU memory, as vLLM's `level` says. Raises EngineFailed while requests run, which would be lost."""
        ...

    def wake_up(self, tag: str, timeout_s: float) -> bool:
        """Take back what has this tag of vLLM's; whether all is back then."""
        ...

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
        from rollout.in_process_engine import InProcessEngine

        return InProcessEngine(settings)
    if adapter == "async":
        from rollout.separate_engine import SeparateProcessEngine

        return SeparateProcessEngine(settings)
    raise ValueError(f"rollout.adapter is in_process or async here, not {adapter!r}")


def engine_args(args_class: type, settings: EngineSettings) -> Any:
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
        enable_sleep_mode=settings.sleeps,
        # A step that is under way while the next one is scheduled would be of weights that have changed.
        async_scheduling=False if settings.in_flight_updates else None,
        disable_log_stats=True,
    )


def sampling_params(request: GenerationRequest, sampling: Sampling) -> SamplingParams:
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


SCORING = SamplingParams(
    temperature=0.0,
    max_tokens=1,
    prompt_logprobs=0,
    flat_logprobs=True,
    detokenize=False,
    output_kind=RequestOutputKind.FINAL_ONLY,
)


def completion(output: Any, versions: tuple[VersionSpan, ...]) -> Completion:
    drawn = output.outputs[0]
    return Completion(
        np.asarray(drawn.token_ids, np.int32),
        np.asarray(drawn.logprobs.logprobs, np.float32),
        FinishReason(drawn.finish_reason),
        versions,
    )


def prompt_logprobs(output: Any) -> np.ndarray:
    return np.asarray(output.prompt_logprobs.logprobs, np.float32)


def tokens_prompt(ids: np.ndarray, version: int) -> TokensPrompt:
    """`version` keeps cached keys and values of other weights away from the prompt."""
    return TokensPrompt(prompt_token_ids=ids.tolist(), cache_salt=str(version))


def timeout_sentence(unfinished: int | None, total: int, deadline_s: float) -> str:
    share = f"{total} requests" if unfinished is None else f"{unfinished} of {total} requests"
    return f"{share} did not finish in {deadline_s:.0f} s; raise rollout.deadline_s or lower rollout.max_new_tokens"
