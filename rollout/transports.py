"""Which engine and which weight transport a device gets."""

import os

from rollout.config import ASYNCHRONOUS

# Name under which our host-memory backend is registered with vLLM's factory.
HOST_BACKEND = "entrain_host"


def resolve_adapter(choice: str, device: str, mode: str) -> str:
    """`auto` is what was measured faster, in-process on CPU and AsyncLLM on CUDA, and in-process where weights change
    while it draws."""
    if choice != "auto":
        return choice
    return "in_process" if device == "cpu" or mode == ASYNCHRONOUS else "async"


def resolve_transport(choice: str, device: str, colocated: bool) -> str:
    """`auto` is host memory on CPU, NCCL on CUDA, and CUDA IPC where engine and learner rank share a GPU, of which NCCL
    takes no two processes."""
    if choice != "auto":
        return choice
    if device == "cpu":
        return "host"
    return "ipc" if colocated else "nccl"


def allow_memory_handles() -> None:
    """Let this process send CUDA memory handles to an engine process of its own, which vLLM refuses by default.

    They are pickled on the way, by vLLM, from the learner of the same run.
    """
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
