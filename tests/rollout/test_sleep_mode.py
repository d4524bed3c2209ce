"""Sleep mode against vLLM's own classes, as far as it goes without a GPU.

vLLM's engine core and executor do their own bookkeeping of what is awake; only the calls to the worker, which would
move memory, are replaced.
"""

import inspect
from types import SimpleNamespace

import pytest
from vllm.config.model import ModelConfig
from vllm.device_allocator.sleep_mode_backend import CuMemBackend, SleepModeBackendFactory
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.platforms import current_platform
from vllm.platforms.interface import Platform, PlatformEnum
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.executor.abstract import SLEEP_TAGS
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.worker.gpu_worker import Worker

from launch.config import ASSETS, compose
from rollout.memory import CACHE, DROPPED, KEPT_IN_HOST_MEMORY, WEIGHTS
from rollout.pool import engine_settings
from rollout.vllm_adapter import EngineSettings, engine_args

MODEL = str(ASSETS / "laboratory" / "96")
COLOCATED = ("output.folder=unused", "rollout.colocated=true", "rollout.sleep_level=2")


@pytest.mark.parametrize("engine", [LLMEngine, AsyncLLM])
def test_vllms_engines_take_what_the_adapters_pass(engine):
    sleep, wake_up = inspect.signature(engine.sleep), inspect.signature(engine.wake_up)
    assert list(sleep.parameters) == ["self", "level", "mode"]
    # No request runs then, so that there is none to abort.
    assert sleep.parameters["mode"].default == "abort"
    assert list(wake_up.parameters) == ["self", "tags"]
    assert wake_up.return_annotation is bool


def test_what_wakes_up_by_itself_has_our_tags():
    assert {WEIGHTS, CACHE} == SLEEP_TAGS


@pytest.mark.parametrize("args", [EngineArgs, AsyncEngineArgs])
def test_the_engine_is_told_that_it_will_sleep_where_it_shares_a_gpu(args):
    colocated, apart = compose(list(COLOCATED)).rollout, compose(["output.folder=unused"]).rollout
    for config, device, sleeps in ((colocated, "cuda", True), (colocated, "cpu", False), (apart, "cuda", False)):
        settings = EngineSettings(**engine_settings(config, device, MODEL, "float32", 64, False))
        assert engine_args(args, settings).enable_sleep_mode is sleeps
    assert engine_settings(colocated, "cuda", MODEL, "float32", 64, False)["weight_transfer"] == "ipc"
    assert engine_settings(apart, "cuda", MODEL, "float32", 64, False)["weight_transfer"] == "nccl"


def test_cuda_has_a_sleep_mode_and_cpu_has_none():
    for kind, there in ((PlatformEnum.CUDA, True), (PlatformEnum.CPU, False)):
        assert Platform.is_sleep_mode_available(SimpleNamespace(_enum=kind)) is there


@pytest.mark.skipif(not current_platform.is_cpu(), reason="this machine has a GPU")
def test_vllm_refuses_sleep_mode_on_cpu():
    with pytest.raises(ValueError, match="Sleep mode is not supported on current platform"):
        ModelConfig(model=MODEL, enable_sleep_mode=True)


class Core:
    """vLLM's engine core with its own executor, and a worker that notes what it is asked."""

    def __init__(self):
        self.asked: list = []
        self.paused = False
        self.model_executor = object.__new__(UniProcExecutor)
        self.model_executor.sleeping_tags = set()
        self.model_executor.collective_rpc = lambda method, kwargs: self.asked.append((method, *kwargs.values()))

    def pause_scheduler(self, mode, clear_cache):
        assert clear_cache
        self.paused = True

    def resume_scheduler(self):
        self.paused = False


@pytest.mark.parametrize("level", [KEPT_IN_HOST_MEMORY, DROPPED])
def test_requests_are_scheduled_once_both_stages_are_back_and_not_before(level):
    core = Core()
    assert EngineCore.sleep(core, level) is None
    assert core.paused
    assert not EngineCore.wake_up(core, [WEIGHTS])
    assert core.paused
    assert EngineCore.wake_up(core, [CACHE])
    assert not core.paused
    assert core.asked == [("sleep", level), ("wake_up", [WEIGHTS]), ("wake_up", [CACHE])]


def test_the_allocator_keeps_weights_at_level_1_alone(monkeypatch):
    kept: list[tuple[str, ...]] = []
    allocator = SimpleNamespace(sleep=lambda offload_tags: kept.append(offload_tags))
    monkeypatch.setattr("vllm.device_allocator.get_mem_allocator_instance", lambda: allocator)
    assert SleepModeBackendFactory.get_backend_class("cumem") is CuMemBackend
    for level in (KEPT_IN_HOST_MEMORY, DROPPED):
        CuMemBackend().suspend(level)
    assert [WEIGHTS in tags for tags in kept] == [True, False]
    assert not any(CACHE in tags for tags in kept)


def test_buffers_which_no_transfer_brings_outlive_level_2(monkeypatch):
    """A rotary table is a buffer: vLLM's worker saves it before weights are dropped, and puts it back with them."""
    import torch

    table = torch.arange(4.0)
    module = torch.nn.Module()
    module.register_buffer("table", table, persistent=False)
    worker = object.__new__(Worker)
    worker.model_runner = SimpleNamespace(model=module)
    worker.model_config = SimpleNamespace(sleep_preserve_parameter_names=[])
    worker.vllm_config = SimpleNamespace(model_config=SimpleNamespace(enable_nccl_comm_suspend=False))
    worker.get_draft_model = lambda: None
    worker.synchronize_device = lambda: None
    worker._sleep_saved_buffers, worker._sleep_saved_draft_buffers, worker._sleep_saved_parameters = {}, {}, {}
    # What the allocator does with the memory of the weights.
    worker._sleep_mode_backend = SimpleNamespace(suspend=lambda level: table.zero_(), resume=lambda tags: None)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: None)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda: (0, 1))
    worker.sleep(DROPPED)
    assert not table.any()
    worker.wake_up([WEIGHTS])
    assert module.table.tolist() == [0.0, 1.0, 2.0, 3.0]
