"""Which engine and which weight transport a device gets."""

# Name under which our host-memory backend is registered with vLLM's factory.
HOST_BACKEND = "entrain_host"


def resolve_adapter(choice: str, device: str) -> str:
    """`auto` is what was measured faster: in-process on CPU, AsyncLLM on CUDA."""
    if choice != "auto":
        return choice
    return "in_process" if device == "cpu" else "async"


def resolve_transport(choice: str, device: str) -> str:
    """`auto` is host memory on CPU and NCCL on CUDA."""
    if choice != "auto":
        return choice
    return "host" if device == "cpu" else "nccl"
