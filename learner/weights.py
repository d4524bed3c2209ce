"""Sending weights to the engines: one session per sync, driven by rank 0 through vLLM's own control plane."""

from typing import Any, Protocol

import ray
import torch

from learner.buckets import ParameterSpec


class WeightSender(Protocol):
    """All ranks call `send`; it returns the bytes that rank 0 sent to each engine."""

    def send(self, version: int) -> int: ...


class EngineClient:
    """vLLM's `VLLMWeightSyncClient` over Ray actors: four methods, every call with a deadline.

    `begin_bucket` and `finish_bucket` are all four in one, for weights in host memory and a sender that has something
    to do meanwhile.

    workers_per_engine  processes of one engine; NCCL ranks of engine i start at 1 + i · workers_per_engine
    """

    def __init__(self, engines: list[Any], workers_per_engine: int, timeout_s: float):
        self._engines = engines
        self._workers = workers_per_engine
        self._timeout_s = timeout_s
        self.version = 0

    @property
    def workers(self) -> int:
        return self._workers * len(self._engines)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        infos = [dict(init_info) for _ in self._engines]
        if "rank_offset" in init_info:
            for index, info in enumerate(infos):
                info["rank_offset"] = 1 + index * self._workers
        self._call("init_weight_transfer_engine", [(info,) for info in infos])

    def start_weight_update(self) -> None:
        self._call("start_weight_update", [()] * len(self._engines))

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self._call("update_weights", [(update_info,)] * len(self._engines))

    def begin_bucket(self, bucket: dict[str, Any], data: Any, opens: bool, closes: bool) -> list[Any]:
        """The calls to be given to `finish_bucket`, before the next is begun: engines do not keep them in order.

        bucket         names, dtypes and shapes of what is in `data`, a reference to arrays in the object store
        opens, closes  whether it is the first and the last one of the update
        """
        version = self.version if closes else None
        return self._begin("load_bucket", [(bucket, data, opens, version)] * len(self._engines))

    def finish_bucket(self, calls: list[Any]) -> None:
        self._wait("load_bucket", calls)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """vLLM's senders leave the version out, so it is the one that `send` was asked for."""
        self._call("finish_weight_update", [(self.version,)] * len(self._engines))

    def _call(self, method: str, arguments: list[tuple]) -> None:
        self._wait(method, self._begin(method, arguments))

    def _begin(self, method: str, arguments: list[tuple]) -> list[Any]:
        return [
            getattr(engine, method).remote(*args, self._timeout_s)
            for engine, args in zip(self._engines, arguments, strict=True)
        ]

    def _wait(self, method: str, calls: list[Any]) -> None:
        try:
            # A little longer than the engine's own limit, so that its more precise sentence wins.
            ray.get(calls, timeout=self._timeout_s + 10)
        except ray.exceptions.GetTimeoutError:
            done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
            late = [engine for engine, call in enumerate(calls) if call not in done]
            raise TimeoutError(
                f"weight sync: {_named(late)} did not return from {method} in {self._timeout_s:.0f} s; see "
                f"{', '.join(f'logs/engine-{engine}.log' for engine in late)}, or raise rollout.sync_timeout_s"
            ) from None
        except ray.exceptions.RayError:
            done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
            for engine, call in enumerate(calls):
                if call in done:
                    _blame(engine, method, call)
            raise


def _named(engines: list[int]) -> str:
    return f"engine{'s' if len(engines) > 1 else ''} {', '.join(map(str, engines))}"


def _blame(engine: int, method: str, call: Any) -> None:
    """Raise what went wrong with a call that has ended, and name its engine."""
    try:
        ray.get(call, timeout=10)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        raise ConnectionError(
            f"weight sync: engine {engine} failed in {method}: {cause}. See logs/engine-{engine}.log"
        ) from error


class HostSender:
    """Sends through the object store: needs no GPU, and works across nodes.

    A bucket is gathered and put while the engines load the one before it, so there are two on the way at most. An
    engine is asked once for each bucket: the first one opens its update and the last one closes it, because where
    processes share cores every answer that is waited for costs more than its work.

    model   a `DeepSpeedModel`
    client  on rank 0, None elsewhere
    """

    def __init__(self, model: Any, client: EngineClient | None, bucket_bytes: int):
        self._model, self._client, self._bucket_bytes = model, client, bucket_bytes
        if client:
            client.init_weight_transfer_engine({})

    def send(self, version: int) -> int:
        client, failure = self._client, None
        sent, size, loading = 0, 0, list[Any]()
        if client:
            client.version = version
            size = sum(spec.size_bytes for spec in self._model.specs())
        for bucket in self._model.full_parameters(self._bucket_bytes):
            try:
                if client:
                    # Apart, so that Ray copies each to its place: one array of all would be one copy more.
                    data = _put([_bytes(tensor) for _, tensor in bucket])
                    client.finish_bucket(loading)
                    opens = sent == 0
                    sent += sum(spec.size_bytes for spec, _ in bucket)
                    loading = client.begin_bucket(_described(bucket), data, opens, closes=sent == size)
            except Exception as error:  # noqa: BLE001  raised below
                # The rest is gathered all the same, because the other ranks wait for this one.
                client, failure = None, error
        if failure:
            raise failure
        if client:
            client.finish_bucket(loading)
            if sent != size:
                raise RuntimeError(f"weight sync: {sent} of {size} bytes were gathered, and the update is still open")
        return sent


def _put(arrays: list[Any]) -> Any:
    try:
        return ray.put(arrays)
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        size = sum(array.nbytes for array in arrays)
        raise MemoryError(
            f"weight sync: Ray's object store has no room for a bucket of {size:,} bytes; lower rollout.bucket_bytes, "
            "or make room where Ray keeps and spills its objects"
        ) from error


def _described(bucket: list[tuple[ParameterSpec, torch.Tensor]]) -> dict[str, Any]:
    return {
        "names": [spec.name for spec, _ in bucket],
        "dtypes": [spec.dtype for spec, _ in bucket],
        "shapes": [list(spec.shape) for spec, _ in bucket],
    }


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.contiguous().cpu().view(-1).view(torch.uint8).numpy()


def open_sender(transport: str, model: Any, client: EngineClient | None, rank: int, bucket_bytes: int) -> WeightSender:
    """The sender for `host`, `nccl` or `ipc`."""
    if transport == "host":
        return HostSender(model, client, bucket_bytes)
    # Imports vLLM, which a learner without it on the GPU path need not have.
    from learner.native_transfer import NativeSender

    return NativeSender(transport, model, client, rank, bucket_bytes)
