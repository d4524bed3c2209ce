"""The Ray actor around one vLLM engine. Heavy imports wait for `start`, so that logs and environment are set first."""

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

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
        self._ended: list[tuple[Key, GenerationRequest, Completion | BaseException]] = []
        self._under_way = 0
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

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling, deadline_s: float) -> list[Response]:
        return self._responses(requests, self._engine.generate(requests, sampling, deadline_s))

    def submit(self, requests: Mapping[Key, GenerationRequest], sampling: Sampling) -> None:
        """Begin to draw; `collect` has what has ended, under its key."""

        def ended(key: Key, request: GenerationRequest) -> "Ended":
            def put(end: "Completion | BaseException") -> None:
                with self._ended_one:
                    self._ended.append((key, request, end))
                    self._under_way -= 1
                    self._ended_one.notify()

            return put

        with self._ended_one:
            self._under_way += len(requests)
        work = [(request, ended(key, request)) for key, request in requests.items()]
        self._engine.submit(work, sampling)

    def collect(self, max_wait_s: float) -> list[tuple[Key, Response]]:
        """What has ended since the last call, after `max_wait_s` at most. Raises what went wrong with a request.

        Where one has ended, those that end shortly after it come along: an answer for each would cost more than it is
        worth.
        """
        with self._ended_one:
            if self._ended_one.wait_for(lambda: self._ended, max_wait_s):
                self._ended_one.wait_for(lambda: not self._under_way, GATHER_S)
            ended, self._ended = self._ended, []
        for _, _, end in ended:
            if isinstance(end, BaseException):
                raise end
        keys, requests, completions = zip(*ended, strict=True) if ended else ((), (), ())
        return list(zip(keys, self._responses(requests, completions), strict=True))

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
        self._engine.start_weight_update(timeout_s)

    def update_weights(self, update_info: dict[str, Any], timeout_s: float) -> None:
        """One bucket; a bucket in host memory comes as `bucket`, a reference into the object store."""
        if "bucket" not in update_info:
            self._engine.update_weights(update_info, timeout_s)
            return
        data = ray.get(update_info["bucket"], timeout=timeout_s)
        info = {key: update_info[key] for key in ("names", "dtypes", "shapes")}
        if self._in_process:
            self._engine.update_weights(info | {"segment": data}, timeout_s)
            return
        segment = SharedMemory(create=True, size=data.nbytes)
        try:
            assert segment.buf is not None
            segment.buf[: data.nbytes] = data.data
            self._engine.update_weights(info | {"segment": segment.name}, timeout_s)
        finally:
            segment.close()
            segment.unlink()

    def finish_weight_update(self, version: int, timeout_s: float) -> None:
        self._engine.finish_weight_update(version, timeout_s)

    def shutdown(self) -> None:
        if self._engine:
            self._engine.shutdown()


def _leave_temporary_files_to_ray() -> None:
    """Have them in the folder of Ray's session, which goes away with it: vLLM does not remove its own."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # Compiled kernels are for the next run too.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())
    node: Any = ray._private.worker.global_worker.node
    os.environ["TMPDIR"] = node.get_session_dir_path()
    tempfile.tempdir = None
