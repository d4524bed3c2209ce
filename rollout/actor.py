"""The Ray actor around one vLLM engine. Heavy imports wait for `start`, so that logs and environment are set first."""

import gc
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from rollout.failures import CalledOff, EngineFailed, NoRoom
from rollout.memory import CACHE, WEIGHTS, GpuMemory, Held
from rollout.types import GenerationRequest, Key, Response, Sampling

if TYPE_CHECKING:
    from rollout.vllm_adapter import Completion, Ended

# How long a response may wait in the engine's actor for others to be collected with it.
GATHER_S = 0.1


class EngineActor:
    """Draws responses, whole batches or one by one as they end, scores sequences, receives weights."""

    def __init__(self, index: int):
        self.index = index
        self._engine: Any = None
        self._memory = GpuMemory()
        self._ended: list[tuple[Key, GenerationRequest, Completion | BaseException]] = []
        # By key the name that the engine knows it by, None as long as it has not said it.
        self._under_way: dict[Key, str | None] = {}
        self._ended_one = threading.Condition()

    def start(self, adapter: str, settings: dict[str, Any]) -> None:
        """Load the model; `settings` are the fields of `vllm_adapter.EngineSettings`."""
        from transformers import AutoTokenizer

        _leave_temporary_files_to_ray()
        from rollout.vllm_adapter import EngineSettings, open_engine

        self._in_process = adapter == "in_process"
        self._tokenizer = AutoTokenizer.from_pretrained(
            settings["model_path"], trust_remote_code=settings["trust_remote_code"]
        )
        self._engine = open_engine(adapter, EngineSettings(**settings))
        _collect_garbage_of_steps()

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling, deadline_s: float) -> list[Response]:
        self._memory.check_awake("draw")
        return self._responses(requests, self._engine.generate(requests, sampling, deadline_s))

    def submit(self, requests: Mapping[Key, GenerationRequest], sampling: Sampling) -> None:
        """Begin to draw; `collect` has what has ended, under its key."""
        self._memory.check_awake("draw")

        def ended(key: Key, request: GenerationRequest) -> "Ended":
            def put(end: "Completion | BaseException") -> None:
                with self._ended_one:
                    self._ended.append((key, request, end))
                    del self._under_way[key]
                    self._ended_one.notify()

            return put

        with self._ended_one:
            self._under_way |= dict.fromkeys(requests)
        work = [(request, ended(key, request)) for key, request in requests.items()]
        names = self._engine.submit(work, sampling)
        with self._ended_one:
            named = zip(requests, names, strict=True)
            self._under_way |= {key: name for key, name in named if key in self._under_way}

    def call_off(self, keys: Sequence[Key]) -> None:
        """Draw no further under `keys`. `collect` says of each that it has ended, with None unless it had before."""
        with self._ended_one:
            names = [name for key in keys if (name := self._under_way.get(key)) is not None]
        self._engine.call_off(names)

    def collect(self, max_wait_s: float) -> list[tuple[Key, Response | None]]:
        """What has ended since the last call, after `max_wait_s` at most. Raises what went wrong with a request.

        Where one has ended, those that end shortly after it come along: an answer for each would cost more than it is
        worth.
        """
        with self._ended_one:
            if self._ended_one.wait_for(lambda: self._ended, max_wait_s):
                self._ended_one.wait_for(lambda: not self._under_way, GATHER_S)
            ended, self._ended = self._ended, []
        found: dict[Key, tuple[GenerationRequest, Completion]] = {}
        given_up: list[tuple[Key, Response | None]] = []
        for key, request, end in ended:
            if isinstance(end, CalledOff):
                given_up.append((key, None))
            elif isinstance(end, BaseException):
                raise end
            else:
                found[key] = request, end
        responses = self._responses([r for r, _ in found.values()], [done for _, done in found.values()])
        return given_up + list(zip(found, responses, strict=True))

    def _responses(self, requests: Sequence[GenerationRequest], completions: Sequence["Completion"]) -> list[Response]:
        if not completions:
            return []  # a tokenizer decodes an empty list to one empty text
        texts = self._tokenizer.batch_decode([c.token_ids.tolist() for c in completions], skip_special_tokens=True)
        return [
            Response(
                request.uid,
                request.sample,
                done.token_ids,
                done.logprobs,
                text,
                done.finish_reason,
                done.versions,
                self.index,
            )
            for request, done, text in zip(requests, completions, texts, strict=True)
        ]

    def score(self, sequences: Sequence[np.ndarray], deadline_s: float) -> list[np.ndarray]:
        self._memory.check_awake("score")
        return self._engine.score(sequences, deadline_s)

    def weight_version(self) -> int:
        """-1 before the engine has started."""
        return self._engine.weight_version() if self._engine else -1

    def progress(self) -> int:
        """Changes as long as the engine gets further. Raises EngineFailed where it has stopped."""
        return self._engine.progress()

    def init_weight_transfer_engine(self, init_info: dict[str, Any], timeout_s: float) -> None:
        self._engine.init_weight_transfer(init_info, timeout_s)

    def start_weight_update(self, timeout_s: float) -> None:
        self._memory.check("take weights", Held.ROOM, Held.ALL_WEIGHTS, Held.EVERYTHING)
        self._engine.start_weight_update(timeout_s)

    def update_weights(self, update_info: dict[str, Any], timeout_s: float) -> None:
        self._engine.update_weights(update_info, timeout_s)

    def finish_weight_update(self, version: int, timeout_s: float) -> None:
        self._engine.finish_weight_update(version, timeout_s)
        self._memory.weights_arrived()

    def load_bucket(
        self, bucket: dict[str, Any], data: list[np.ndarray], opens: bool, version: int | None, timeout_s: float
    ) -> None:
        """Load one bucket of weights from host memory.

        bucket   names, dtypes and shapes of what is in `data`
        data     the bytes of each parameter
        opens    it is the first one of the update
        version  of the weights that it is the last one of, else None
        """
        if opens:
            self.start_weight_update(timeout_s)
        if self._in_process:
            self.update_weights(bucket | {"segment": data}, timeout_s)
        else:
            self._update_through_shared_memory(bucket, data, timeout_s)
        if version is not None:
            self.finish_weight_update(version, timeout_s)

    def _update_through_shared_memory(self, bucket: dict[str, Any], data: list[np.ndarray], timeout_s: float) -> None:
        segment = SharedMemory(create=True, size=sum(one.nbytes for one in data))
        try:
            assert segment.buf is not None
            np.concatenate(data, out=np.frombuffer(segment.buf, np.uint8, sum(one.nbytes for one in data)))
            self.update_weights(bucket | {"segment": segment.name}, timeout_s)
        finally:
            segment.close()
            segment.unlink()

    def sleep(self, level: int, timeout_s: float) -> None:
        """Leave GPU memory to the learner. Level 1 keeps the weights in host memory, level 2 drops them."""
        self._memory.check_awake("sleep")
        self._engine.sleep(level, timeout_s)
        self._memory.slept(level)

    def wake_weights(self, timeout_s: float) -> None:
        """Take back the memory of the weights, for a transfer to fill it."""
        self._memory.check("take back its weights", Held.NOTHING)
        self._take_back(WEIGHTS, timeout_s)
        self._memory.weights_are_back()

    def wake_cache(self, timeout_s: float) -> None:
        """Take back the key-value cache, and draw again."""
        self._memory.check("draw again", Held.ALL_WEIGHTS)
        if not self._take_back(CACHE, timeout_s):
            raise EngineFailed("vLLM sleeps on although weights and key-value cache are back")
        self._memory.cache_is_back()

    def _take_back(self, tag: str, timeout_s: float) -> bool:
        try:
            return self._engine.wake_up(tag, timeout_s)
        except EngineFailed:
            raise
        except Exception as error:  # vLLM has no class of its own for this
            raise NoRoom(
                f"engine {self.index} could not take back its {tag} ({_first_line(error)}), because the learner rank "
                "holds too much of their GPU: lower rollout.gpu_memory_utilization, or give learner.zero_stage=2 and "
                "learner.offload_while_drawing=true."
            ) from error

    def shutdown(self) -> None:
        if self._engine:
            self._engine.shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _collect_garbage_of_steps() -> None:
    """Leave what is there now out of collections to come.

    Python makes a full collection when what is new comes to a quarter of what the last one went through. Of all that
    vLLM and its model are, that is the garbage of a hundred weight updates.
    """
    gc.freeze()
    # Of next to nothing: from here on a quarter is soon reached.
    gc.collect()


def _leave_temporary_files_to_ray() -> None:
    """Have them in the folder of Ray's session, which goes away with it: vLLM does not remove its own."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # Compiled kernels are for the next run too.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())
    node: Any = ray._private.worker.global_worker.node
    os.environ["TMPDIR"] = node.get_session_dir_path()
    tempfile.tempdir = None
