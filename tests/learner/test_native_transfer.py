"""The GPU transports against vLLM's own classes, as far as they go without a GPU.

vLLM's senders run as they are, with a client, engine handles and a model of ours; only what needs a device is replaced:
opening the NCCL group, the broadcast, the packed CUDA buffer. What reaches an engine is read by the classes that read
it there.
"""

import inspect
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer import ipc_engine, nccl_engine
from vllm.distributed.weight_transfer.base import (
    VLLMWeightSyncClient,
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo, IPCWeightTransferEngine
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLWeightTransferEngine
from vllm.distributed.weight_transfer.packed_tensor import PackedIpcChunk, pack_tensors, unpack_tensor
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from learner.buckets import ParameterSpec, plan_buckets
from learner.native_transfer import NativeSender, ZeroSource, _init_info
from learner.weights import EngineClient
from rollout import transports
from rollout.host_transfer import register_host_backend
from rollout.transports import HOST_BACKEND, resolve_transport

SHAPES = {"embed": (8, 4), "layer.weight": (4, 4), "layer.bias": (4,), "norm": (4,)}
# What torch's reduce_tensor gives for a CUDA tensor: a class, sizes, and memory and event handles as bytes.
HANDLE = (torch.Tensor, torch.Size([4]), (1,), 0, torch.UntypedStorage, torch.uint8, 0, b"m" * 64, 256, 0, False)


class Model:
    """Parameters of SHAPES, whole; a bucket is only valid until the next is asked for, as with ZeRO-3."""

    def __init__(self):
        torch.manual_seed(0)
        self.parameters = {name: torch.randn(shape) for name, shape in SHAPES.items()}

    def specs(self):
        return [ParameterSpec(n, tuple(p.shape), "float32", p.nbytes) for n, p in self.parameters.items()]

    def full_parameters(self, bucket_bytes):
        specs = self.specs()
        for bucket in plan_buckets(specs, bucket_bytes):
            yield [(specs[i], self.parameters[specs[i].name].clone()) for i in bucket]


class Engine:
    """An engine actor's handle: notes each call."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, method):
        def remote(*arguments):
            self.calls.append((method, *arguments[:-1]))
            return f"answer to {method}"

        return SimpleNamespace(remote=remote)


@pytest.fixture
def engines(monkeypatch):
    monkeypatch.setattr("learner.weights.ray.get", lambda calls, timeout: calls)
    monkeypatch.setattr("learner.native_transfer.ray.util.get_node_ip_address", lambda: "10.0.0.1")
    return [Engine(), Engine()]


@pytest.fixture
def broadcast(monkeypatch):
    """What the NCCL sender would broadcast."""
    sent = []
    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", lambda init_info: SimpleNamespace(init_info=init_info))
    monkeypatch.setattr(
        nccl_engine,
        "packed_nccl_broadcast_producer",
        lambda iterator, group, src, post_iter_func, buffer_size_bytes, num_buffers: sent.extend(iterator),
    )
    monkeypatch.setattr(nccl_engine.NCCLTrainerWeightTransferEngine, "_post_send_sync", staticmethod(lambda: None))
    return sent


@pytest.fixture
def packed(monkeypatch):
    """The bytes that the IPC sender's buffer holds, chunk by chunk."""
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="GPU-0"))
    monkeypatch.setattr(torch.cuda, "ipc_collect", lambda: None)
    chunks = []

    def producer(iterator, gpu_uuid, post_iter_func, buffer_size_bytes):
        while chunk := pack_tensors(iterator, post_iter_func, buffer_size_bytes):
            assert max(chunk.tensor_sizes) <= buffer_size_bytes, "vLLM's own producer refuses this"
            chunks.append(chunk.packed_tensor)
            dtypes = [str(dtype).removeprefix("torch.") for dtype in chunk.dtypes]
            yield PackedIpcChunk(chunk.names, chunk.shapes, dtypes, chunk.tensor_sizes, {gpu_uuid: HANDLE})

    monkeypatch.setattr(ipc_engine, "packed_ipc_producer", producer)
    return chunks


@pytest.mark.parametrize("choice", ["nccl", "ipc"])
def test_vllm_knows_the_transports_on_both_sides(choice):
    assert resolve_transport(choice, "cuda", colocated=choice == "ipc") == choice
    assert choice in WeightTransferTrainerFactory._registry
    assert choice in WeightTransferEngineFactory._registry
    assert WeightTransferConfig(backend=choice).backend == choice


def test_vllm_knows_the_host_backend_once_it_is_registered():
    register_host_backend()
    engine = WeightTransferEngineFactory._registry[HOST_BACKEND]()
    assert engine.__name__ == "HostWeightTransfer"
    assert not engine.__abstractmethods__


def test_the_client_has_the_methods_that_vllms_senders_call():
    wanted = [name for name in vars(VLLMWeightSyncClient) if not name.startswith("_")]
    assert len(wanted) == 4
    for name in wanted:
        ours, theirs = (
            list(inspect.signature(getattr(c, name)).parameters) for c in (EngineClient, VLLMWeightSyncClient)
        )
        assert ours == theirs, name


def test_vllms_engine_takes_what_the_adapter_passes():
    assert [field.name for field in fields(WeightTransferInitRequest)] == ["init_info"]
    assert [field.name for field in fields(WeightTransferUpdateRequest)] == ["update_info"]
    for method, parameters in {
        "init_weight_transfer_engine": ["self", "request"],
        "start_weight_update": ["self"],
        "update_weights": ["self", "request"],
        "finish_weight_update": ["self", "weight_version"],
    }.items():
        assert list(inspect.signature(getattr(AsyncLLM, method)).parameters) == parameters


@pytest.mark.parametrize("bucket_bytes", [1, 80, 10**6])
def test_the_source_yields_what_its_metadata_says(bucket_bytes):
    model = Model()
    source = ZeroSource(model, bucket_bytes)
    assert [(meta.name, meta.dtype, meta.shape) for meta in source.metadata()] == [
        (name, torch.float32, shape) for name, shape in SHAPES.items()
    ]
    checked = nccl_engine.NCCLTrainerWeightTransferEngine._checked_iter(source, source.metadata())
    assert {name: tensor.tolist() for name, tensor in checked} == {
        name: tensor.tolist() for name, tensor in model.parameters.items()
    }


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_of_the_learner_says_where_the_group_meets(engines, rank):
    client = EngineClient(engines, workers_per_engine=2, timeout_s=9.0) if rank == 0 else None
    info = _init_info("nccl", client, rank, 64)
    assert isinstance(info, NCCLTrainerInitInfo)
    assert (info.backend, info.rank, info.is_sender) == ("nccl", rank, rank == 0)
    assert (info.packed, info.packed_buffer_size_bytes) == (True, 64)
    if rank == 0:
        # The sender and two engines of two processes each.
        assert (info.world_size, info.master_address) == (5, "10.0.0.1")
        assert 0 < info.master_port < 2**16
    ipc = _init_info("ipc", client, rank, 64)
    assert isinstance(ipc, IPCTrainerInitInfo)
    assert (ipc.backend, ipc.is_sender, ipc.packed, ipc.packed_buffer_size_bytes) == ("ipc", rank == 0, True, 64)


def test_nccl_from_the_rendezvous_to_the_version(engines, broadcast):
    model = Model()
    client = EngineClient(engines, workers_per_engine=2, timeout_s=9.0)
    sender = NativeSender("nccl", model, client, rank=0, bucket_bytes=80)
    offsets = []
    for engine in engines:
        [(method, init_info)] = engine.calls
        assert method == "init_weight_transfer_engine"
        read = NCCLWeightTransferEngine.parse_init_info(
            SimpleNamespace(init_info_cls=NCCLWeightTransferInitInfo), init_info
        )
        assert (read.world_size, read.packed, read.packed_buffer_size_bytes) == (5, True, 128)
        offsets.append(read.rank_offset)
    # Rank 0 is the sender; the two processes of an engine follow its offset.
    assert offsets == [1, 3]
    assert sender.send(7) == sum(p.nbytes for p in model.parameters.values())
    for engine in engines:
        start, (update, update_info), finish = engine.calls[1:]
        assert (start, update, finish) == (("start_weight_update",), "update_weights", ("finish_weight_update", 7))
        read = nccl_engine.NCCLWeightTransferUpdateInfo(**update_info)
        assert dict(zip(read.names, map(tuple, read.shapes), strict=True)) == SHAPES
        assert set(read.dtype_names) == {"float32"}
    assert {name: tensor.tolist() for name, tensor in broadcast} == {
        name: tensor.tolist() for name, tensor in model.parameters.items()
    }


def test_a_rank_that_does_not_send_gathers_with_the_others_and_calls_no_engine(broadcast, engines):
    gathered = []
    model = Model()
    whole = model.full_parameters
    model.full_parameters = lambda size: (gathered.append(bucket) or bucket for bucket in whole(size))
    NativeSender("nccl", model, None, rank=1, bucket_bytes=80).send(7)
    assert sum(len(bucket) for bucket in gathered) == len(SHAPES)
    assert broadcast == []


def test_ipc_packs_every_parameter_however_large_and_the_engine_can_read_it(engines, packed):
    """The embedding of 128 bytes is larger than the bucket of 80."""
    model = Model()
    sender = NativeSender("ipc", model, EngineClient(engines[:1], 1, 9.0), rank=0, bucket_bytes=80)
    sender.send(3)
    init, start, *updates, finish = engines[0].calls
    assert init == ("init_weight_transfer_engine", {"packed": True})
    assert (start, finish) == (("start_weight_update",), ("finish_weight_update", 3))
    found = {}
    for (method, update_info), data in zip(updates, packed, strict=True):
        assert method == "update_weights"
        read = IPCWeightTransferEngine.update_info_cls(**update_info)
        dtypes = [getattr(torch, name) for name in read.dtype_names]
        for name, tensor in unpack_tensor(data, read.names, read.shapes, dtypes, read.tensor_sizes):
            found[name] = tensor.tolist()
    assert found == {name: tensor.tolist() for name, tensor in model.parameters.items()}


def test_memory_handles_pass_to_an_engine_process_only_where_they_are_allowed(monkeypatch):
    call = (0, "update_weights", {"update_info": {"ipc_handles": {"GPU-0": HANDLE}}})
    monkeypatch.delenv("VLLM_ALLOW_INSECURE_SERIALIZATION", raising=False)
    with pytest.raises(TypeError, match="VLLM_ALLOW_INSECURE_SERIALIZATION"):
        MsgpackEncoder().encode(call)
    monkeypatch.setattr(transports.os, "environ", environment := dict(transports.os.environ))
    transports.allow_memory_handles()
    monkeypatch.undo()
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", environment["VLLM_ALLOW_INSECURE_SERIALIZATION"])
    _, _, arguments = MsgpackDecoder().decode(MsgpackEncoder().encode(call))
    handle = arguments["update_info"]["ipc_handles"]["GPU-0"]
    assert handle[0] is torch.Tensor
    assert (handle[4], handle[7]) == (torch.UntypedStorage, b"m" * 64)
