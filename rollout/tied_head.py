"""The one step vLLM's layer-wise reload leaves out.

On CPU vLLM packs every linear weight after loading and drops the original. `finalize_layerwise_reload` packs the layers
again, but with tied word embeddings the packed copy of the LM head stays at the old weights: log-probabilities then
belong to no policy at all.
"""

from typing import Any


def repack(model: Any) -> None:
    """Pack the LM head of a vLLM model again from its freshly loaded weight."""
    head = model.lm_head
    head.quant_method.process_weights_after_loading(head)
