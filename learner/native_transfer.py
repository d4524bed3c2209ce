"""Sending weights GPU to GPU with vLLM's own trainer-side engines (NCCL, CUDA IPC). Not yet run on a GPU."""

import socket
from collections.abc import Iterator
from typing import Any, cast

import ray
import torch
from vllm.distributed.weight_transfer.base import ParamMeta, TrainerInitInfo, VLLMWeightSyncClient, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from learner.weights import EngineClient


class ZeroSource(WeightSource):
    """vLLM's view of a `DeepSpeedModel`: names and full shapes at once, tensors bucket by bucket."""

    def __init__(self, model: Any, bucket_bytes: int):
        self._model, self._bucket_bytes = model, bucket_bytes

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(s.name, getattr(torch, s.dtype), s.shape) for s in self._model.specs()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for bucket in self._model.full_parameters(self._bucket_bytes):
            for spec, tensor in bucket:
                yield spec.name, tensor


class NativeSender:
    """One `TrainerWeightTransferEngine` per rank; rank 0 talks to the engines."""

    def __init__(self, transport: str, model: Any, client: EngineClient | None, rank: int, bucket_bytes: int):
        self._client = client
        self._source = ZeroSource(model, bucket_bytes)
        sizes = [spec.size_bytes for spec in model.specs()]
        self._bytes = sum(sizes)
        # The packed buffer of CUDA IPC refuses a parameter that does not fit in whole.
        buffer_bytes = max(bucket_bytes, *sizes)
        self._transfer = WeightTransferTrainerFactory.trainer_init(
            # vLLM touches the client on the sender only.
            _init_info(transport, client, rank, buffer_bytes),
            client=cast(VLLMWeightSyncClient, client),
            source=self._source,
        )

    def send(self, version: int) -> int:
        if self._client:
            self._client.version = version
        self._transfer.send_weights()
        return self._bytes


def _init_info(transport: str, client: EngineClient | None, rank: int, buffer_bytes: int) -> TrainerInitInfo:
    if transport == "ipc":
        return IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=buffer_bytes)
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return NCCLTrainerInitInfo(
        rank=rank,
        master_address=ray.util.get_node_ip_address(),
        master_port=port,
        world_size=1 + (client.workers if client else 0),
        packed=True,
        packed_buffer_size_bytes=buffer_bytes,
    )
