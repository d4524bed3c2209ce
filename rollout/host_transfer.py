"""vLLM's weight-transfer backend for host memory: what receives our buckets inside the engine's worker."""

from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from rollout import tied_head
from rollout.transports import HOST_BACKEND


@dataclass
class HostInitInfo(WeightTransferInitInfo):
    """The host backend needs no rendezvous."""


@dataclass
class HostUpdateInfo(WeightTransferUpdateInfo):
    """One bucket of parameters lying one after another in `segment`.

    names, dtypes, shapes  of the parameters in the bucket, checkpoint names, dtype as in "float32"
    segment                a uint8 array, or the name of a shared-memory segment that holds it
    """

    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    segment: Any


class HostWeightTransfer(WeightTransferEngine[HostInitInfo, HostUpdateInfo]):
    """Receives weights as buckets in host memory and loads them layer by layer."""

    init_info_cls = HostInitInfo
    update_info_cls = HostUpdateInfo

    def init_transfer_engine(self, init_info: HostInitInfo) -> None:
        pass

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: HostUpdateInfo) -> None:
        if not isinstance(update_info.segment, str):
            self._load(update_info, torch.from_numpy(update_info.segment))
            return
        segment = SharedMemory(name=update_info.segment)
        try:
            assert segment.buf is not None
            # Copied, because the layer-wise loader may hold a tensor past this call and the segment goes away.
            self._load(update_info, torch.frombuffer(bytearray(segment.buf), dtype=torch.uint8))
        finally:
            segment.close()

    def _load(self, bucket: HostUpdateInfo, data: torch.Tensor) -> None:
        weights, start = [], 0
        for name, dtype_name, shape in zip(bucket.names, bucket.dtypes, bucket.shapes, strict=True):
            dtype = getattr(torch, dtype_name)
            size = int(np.prod(shape)) * dtype.itemsize
            weights.append((name, data[start : start + size].view(dtype).view(shape).to(self.device)))
            start += size
        model: Any = self.model
        model.load_weights(iter(weights))

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type == "cpu" and self.model_config.hf_config.tie_word_embeddings:
            tied_head.repack(self.model)

    def shutdown(self) -> None:
        pass


def register_host_backend() -> None:
    """Make the host backend known to this process; also the package's `vllm.general_plugins` entry point."""
    if HOST_BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(HOST_BACKEND, __name__, "HostWeightTransfer")
