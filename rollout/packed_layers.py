"""New weights for the linear layers that vLLM packs on CPU.

After loading, vLLM on CPU packs every linear weight and drops the original, so that later weights find no place. Its
own layer-wise reload makes that place anew for each layer, and finds out what each weight fills by loading it twice,
once without memory. For a small model that is most of a transfer; for a large one the zeroing of new memory is. Here
the weights of one layer after another are gathered in memory that is kept, and packed when all are there.

What it knows of vLLM beyond documented interfaces is what `record_metadata_for_reloading` recorded, and that a packed
layer has `cpu_linear`, and an empty `weight`; tests/rollout/test_packed_layers.py pins both.
"""

from typing import Any

import torch
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.model_executor.model_loader.reload.meta import materialize_meta_tensor
from vllm.model_executor.model_loader.reload.sanitize import restore_layer_refs
from vllm.platforms import current_platform

from rollout import tied_head


def can_load(model: torch.nn.Module) -> bool:
    """Whether all that vLLM makes of the weights is packed linear layers: nothing quantized, sharded or absorbed."""
    if current_platform.is_zen_cpu():
        return False  # there a layer may keep what it was packed from
    for layer in model.modules():
        method = getattr(layer, "quant_method", None)
        if method is not None and type(method) not in (UnquantizedLinearMethod, UnquantizedEmbeddingMethod):
            return False
        if getattr(layer, "tp_size", 1) != 1:
            return False
        if hasattr(layer, "process_weights_after_loading") and type(layer) is not Attention:
            return False
    return hasattr(model, "lm_head")


class PackedLayers:
    """The packed linear layers of a model, between `open` and `close` ready for `model.load_weights`.

    Other parameters have a place of their own, to which vLLM copies what is new.
    """

    def __init__(self, model: Any):
        spare: list[torch.Tensor] = []
        self._model = model
        self._layers = [
            _PackedLayer(name, layer, spare)
            for name, layer in model.named_modules()
            if type(getattr(layer, "quant_method", None)) is UnquantizedLinearMethod and not layer.weight.numel()
        ]

    def open(self) -> None:
        for layer in self._layers:
            layer.open()

    @torch.no_grad()
    def close(self) -> None:
        """Raises RuntimeError where a layer lacks weights."""
        if lacking := [layer.name for layer in self._layers if layer.lacks]:
            raise RuntimeError(f"weights for {', '.join(lacking)} were not sent, or not all of them")
        tied_head.repack(self._model)


class _PackedLayer:
    """Takes the place of the weight loader of a layer.

    spare  memory that layers share, one after another
    lacks  elements that have not arrived
    """

    def __init__(self, name: str, layer: Any, spare: list[torch.Tensor]):
        self.name, self.lacks = name, 0
        self._layer, self._spare = layer, spare
        empty: Any = restore_layer_refs(get_layerwise_info(layer).restore_metadata[0]["weight"], layer)
        self._load, empty.weight_loader = empty.weight_loader, self._arrived
        self._empty = empty
        self._memory: torch.Tensor | None = None

    def open(self) -> None:
        self.lacks, self._memory = self._empty.numel(), None
        self._layer.weight = self._empty

    @torch.no_grad()
    def _arrived(self, _: Any, loaded: torch.Tensor, *which: Any) -> None:
        if self._memory is None:
            self._begin()
        self._load(self._layer.weight, loaded, *which)
        self.lacks -= loaded.numel()
        if not self.lacks:
            self._pack()

    def _begin(self) -> None:
        weight: Any = materialize_meta_tensor(self._empty)
        self._memory = self._spare.pop() if self._spare else torch.empty(0, dtype=torch.uint8)
        if self._memory.nbytes < weight.nbytes:
            self._memory = torch.empty(weight.nbytes, dtype=torch.uint8)
        weight.data = self._memory[: weight.nbytes].view(weight.dtype).view(weight.shape)
        self._layer.weight = weight

    def _pack(self) -> None:
        # First, so that what is packed now can lie where the old one did.
        del self._layer.cpu_linear
        self._layer.quant_method.process_weights_after_loading(self._layer)
        assert self._memory is not None
        self._spare.append(self._memory)
