"""Which engine and which weight transport a device gets."""

from rollout.config import ASYNCHRONOUS

# Name under which our host-memory backend is registered with vLLM's factory.
HOST_BACKEND = "entrain_host"


def resolve_adapter(choice: str, device: str, mode: str) -> str:
    """`auto` is what was measured faster, in-process on CPU and AsyncLLM on CUDA, and in-process where weights change
    while it draws."""
    if choice != "auto":
        return choice
    return "in_process" if device == "cpu" or mode == ASYNCHRONOUS else "async"


def resolve_transport(choice: str, device: str) -> str:
    """`auto` is host memory on CPU and NCCL on CUDA."""
    if choice != "auto":
        return choice
    return "host" if device == "cpu" else "nccl"
