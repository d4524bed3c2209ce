"""The Ray actor around one vLLM engine. Heavy imports wait for `start`, so that logs and environment are set first."""

import os
import tempfile
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import ray

from rollout.types import GenerationRequest, Response, Sampling, VersionSpan


class EngineActor:
    """Draws responses, scores sequences, receives weights."""

    def __init__(self, index: int):
        self.index = index
        self._engine: Any = None

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
        version = self._engine.weight_version()
        completions = self._engine.generate(requests, sampling, deadline_s)
        texts = self._tokenizer.batch_decode([c.token_ids.tolist() for c in completions], skip_special_tokens=True)
        return [
            Response(
                request.uid,
                request.sample,
                done.token_ids,
                done.logprobs,
                text,
                done.finish_reason,
                (VersionSpan(0, version),),
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
