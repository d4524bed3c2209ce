"""What one rank holds of the optimizer's fp32 weights and moments: by parameter, as views, in every ZeRO stage.

DeepSpeed keeps both in flat tensors and a map from parameters into them. Reading that map takes no communication, so
each rank gives and takes its own share. The attributes are those of DeepSpeed 0.19.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from learner.buckets import ParameterSpec, plan_buckets
from learner.snapshots import WEIGHTS, Pieces, StateMismatch, Wholes

# Of one element of the weights, and of each moment.
ELEMENT_BYTES = 4


@dataclass(frozen=True)
class Shard:
    """Elements [start, start + size) of one trained parameter, flattened; size 0 where this rank holds none of it.

    parameter  what the forward pass reads, of lower precision maybe, in parts maybe
    flat       what the optimizer updates, and keeps its state under
    offset     of the elements in `flat`
    """

    name: str
    parameter: torch.nn.Parameter
    shape: tuple[int, ...]
    start: int
    size: int
    flat: torch.Tensor
    offset: int

    def of(self, flat: torch.Tensor) -> torch.Tensor:
        """This shard's elements of a tensor laid out like `flat`."""
        return flat.detach().view(-1).narrow(0, self.offset, self.size)


class OptimizerState:
    """Master weights, moments and step count of the trained parameters of a DeepSpeed engine."""

    def __init__(self, model: torch.nn.Module, engine: Any):
        wrapper = engine.optimizer
        self._optimizer: torch.optim.Optimizer = getattr(wrapper, "optimizer", wrapper)
        self._sharded = wrapper is not self._optimizer
        self._rank, self._ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._shards = {
            name: _shard(name, parameter, wrapper, self._optimizer)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every trained parameter, whole."""
        return {name: shard.shape for name, shard in self._shards.items()}

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        counts = {int(state["step"]) for state in self._optimizer.state.values() if "step" in state}
        return max(counts, default=0)

    @property
    def moments(self) -> list[str]:
        """Names of what the optimizer keeps of every element, as exp_avg; none before its first step."""
        flats = {id(shard.flat): shard.flat for shard in self._shards.values()}.values()
        found: dict[str, None] = {}
        for flat in flats:
            for name, value in self._optimizer.state.get(flat, {}).items():
                if torch.is_tensor(value) and value.numel() == flat.numel() and name != "step":
                    found[name] = None
        return list(found)

    def give(self, bucket_bytes: int) -> Iterator[Pieces]:
        """This rank's share, bucket after bucket: of the same parameters on every rank, which whole take
        `bucket_bytes` at most, or one parameter more. The arrays may be the state itself: copy them before training
        goes on."""
        kinds = [WEIGHTS, *self.moments]
        specs = [_spec(shard, len(kinds)) for shard in self._shards.values()]
        shards = list(self._shards.values())
        for bucket in plan_buckets(specs, bucket_bytes):
            pieces: dict[str, dict[str, tuple[int, np.ndarray]]] = {kind: {} for kind in kinds}
            for shard in (shards[i] for i in bucket):
                first, last = self._share(shard)
                if first < last:
                    for kind in kinds:
                        values = shard.of(self._tensor(shard, kind))[first:last]
                        pieces[kind][shard.name] = (shard.start + first, _float32(values))
            yield pieces

    def not_finite(self) -> str | None:
        """A parameter of which this rank holds a weight or a moment that is not finite; None where all are."""
        for shard in self._shards.values():
            state = self._optimizer.state.get(shard.flat, {})
            kept = (value for value in state.values() if torch.is_tensor(value) and value.numel() == shard.flat.numel())
            if not all(bool(shard.of(values).isfinite().all()) for values in (shard.flat, *kept)):
                return shard.name
        return None

    def begin_take(self, steps: int, moments: list[str]) -> None:
        """Make room for moments as of `steps` steps, in place of those there are."""
        for shard in self._shards.values():
            state = self._optimizer.state[shard.flat]
            if moments and set(state) != {"step", *moments}:
                zeros = {name: torch.zeros_like(shard.flat, requires_grad=False) for name in moments}
                self._optimizer.state[shard.flat] = {"step": torch.tensor(float(steps)), **zeros}
            elif moments:
                state["step"] = torch.tensor(float(steps))
            else:
                state.clear()

    def take(self, wholes: Wholes) -> None:
        """Set this rank's share of whole parameters, and what the forward pass reads. Raises StateMismatch."""
        for kind, arrays in wholes.items():
            for name, array in arrays.items():
                shard = self._shards.get(name)
                if shard is None or shard.shape != array.shape:
                    known = "does not train" if shard is None else f"has in shape {list(shard.shape)}"
                    raise StateMismatch(f"the checkpoint holds {name} {list(array.shape)}, which the model {known}")
                whole = torch.tensor(array)
                part = whole.view(-1)[shard.start : shard.start + shard.size]
                shard.of(self._tensor(shard, kind)).copy_(part)
                if kind == WEIGHTS:
                    _set_parameter(shard, whole)

    def _share(self, shard: Shard) -> tuple[int, int]:
        """What this rank gives of a shard: all of it, or its equal part of what every rank holds."""
        if self._sharded:
            return 0, shard.size
        return shard.size * self._rank // self._ranks, shard.size * (self._rank + 1) // self._ranks

    def _tensor(self, shard: Shard, kind: str) -> torch.Tensor:
        return shard.flat if kind == WEIGHTS else self._optimizer.state[shard.flat][kind]


def _shard(name: str, parameter: torch.nn.Parameter, wrapper: Any, optimizer: torch.optim.Optimizer) -> Shard:
    if wrapper is optimizer:  # stage 0: every rank holds every parameter, and they are the master weights
        return Shard(name, parameter, tuple(parameter.shape), 0, parameter.numel(), parameter, 0)
    if hasattr(parameter, "ds_id"):  # stage 3: every rank holds an equal part of every parameter, the last padded
        part: Any = parameter
        group, offset, length = wrapper.grad_position[wrapper.get_param_id(part)]
        start = length * torch.distributed.get_rank()
        size = max(0, min(length, part.ds_numel - start))
        flat = wrapper.fp32_partitioned_groups_flat[group]
        return Shard(name, parameter, tuple(part.ds_shape), start, size, flat, offset)
    mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:  # all of it is on other ranks
        return Shard(name, parameter, tuple(parameter.shape), 0, 0, optimizer.param_groups[0]["params"][0], 0)
    flat = optimizer.param_groups[mapping.param_group_index]["params"][0]
    held, place = mapping.lp_fragment_address, mapping.hp_fragment_address
    return Shard(name, parameter, tuple(parameter.shape), held.start, held.numel, flat, place.start)


def _set_parameter(shard: Shard, whole: torch.Tensor) -> None:
    """What the forward pass reads becomes the master weights, rounded as the optimizer rounds them after a step."""
    parameter: Any = shard.parameter
    if not hasattr(parameter, "ds_id"):
        parameter.data.copy_(whole)
        return
    parameter.ds_tensor.data.view(-1)[: shard.size].copy_(whole.view(-1)[shard.start : shard.start + shard.size])
    if parameter.data.numel() == whole.numel():  # too small for DeepSpeed to shard it while it is not in use
        parameter.data.copy_(whole)


def _spec(shard: Shard, kinds: int) -> ParameterSpec:
    elements = int(np.prod(shard.shape, dtype=np.int64))
    return ParameterSpec(shard.name, shard.shape, "float32", elements * ELEMENT_BYTES * kinds)


def _float32(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
