"""Cutting a model into buckets of bounded size. Pure: sizes are known without gathering anything."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterSpec:
    """Name as in a checkpoint, full shape, dtype as in "float32", and full size."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int


def plan_buckets(parameters: list[ParameterSpec], bucket_bytes: int) -> list[list[int]]:
    """Indices of `parameters`, in order, in buckets of at most `bucket_bytes`; a larger parameter travels alone."""
    buckets: list[list[int]] = []
    room = 0
    for index, parameter in enumerate(parameters):
        if not buckets or parameter.size_bytes > room:
            buckets.append([])
            room = bucket_bytes
        buckets[-1].append(index)
        room -= parameter.size_bytes
    return buckets
