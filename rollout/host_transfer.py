"""vLLM's weight-transfer backend for host memory: what receives our buckets inside the engine's worker."""

from collections.abc import Sequence
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

from rollout import packed_layers, tied_head
from rollout.transports import HOST_BACKEND


@dataclass
class HostInitInfo(WeightTransferInitInfo):
    """The host backend needs no rendezvous."""


@dataclass
class HostUpdateInfo(WeightTransferUpdateInfo):
    """One bucket of parameters.

    names, dtypes, shapes  of the parameters in the bucket, checkpoint names, dtype as in "float32"
    segment                their bytes: uint8 arrays, or the name of a shared-memory segment in which they lie one after
                           another
    """

    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    segment: Any


class HostWeightTransfer(WeightTransferEngine[HostInitInfo, HostUpdateInfo]):
    """Receives weights as buckets in host memory and loads them layer by layer: on CPU its own way where it can, else
    by vLLM's reload."""

    init_info_cls = HostInitInfo
    update_info_cls = HostUpdateInfo
    _packed: packed_layers.PackedLayers | None = None

    def init_transfer_engine(self, init_info: HostInitInfo) -> None:
        if self.device.type == "cpu" and self._packed is None and packed_layers.can_load(self.model):
            self._packed = packed_layers.PackedLayers(self.model)

    def start_weight_update(self) -> None:
        if self._packed:
            self._packed.open()
        else:
            initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: HostUpdateInfo) -> None:
        if not isinstance(update_info.segment, str):
            self._load(update_info, [torch.from_numpy(array) for array in update_info.segment])
            return
        sizes = [
            int(np.prod(shape)) * getattr(torch, dtype).itemsize
            for dtype, shape in zip(update_info.dtypes, update_info.shapes, strict=True)
        ]
        segment = SharedMemory(name=update_info.segment)
        try:
            assert segment.buf is not None
            # Copied, because the layer-wise loader may hold a tensor past this call and the segment goes away.
            data = torch.frombuffer(bytearray(segment.buf[: sum(sizes)]), dtype=torch.uint8)
            self._load(update_info, data.split(sizes))
        finally:
            segment.close()

    def _load(self, bucket: HostUpdateInfo, data: Sequence[torch.Tensor]) -> None:
        weights = [
            (name, bytes_.view(getattr(torch, dtype)).view(shape).to(self.device))
            for name, dtype, shape, bytes_ in zip(bucket.names, bucket.dtypes, bucket.shapes, data, strict=True)
        ]
        model: Any = self.model
        model.load_weights(iter(weights))

    def finish_weight_update(self) -> None:
        if self._packed:
            self._packed.close()
            return
        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type == "cpu" and self.model_config.hf_config.tie_word_embeddings:
            tied_head.repack(self.model)

    def shutdown(self) -> None:
        pass


def register_host_backend() -> None:
    """Make the host backend known to this process; also the package's `vllm.general_plugins` entry point."""
    if HOST_BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(HOST_BACKEND, __name__, "HostWeightTransfer")
