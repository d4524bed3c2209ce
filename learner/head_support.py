"""Which LM heads the fused head can stand for: a product with a weight, and nothing after it.

Free of torch at import, so that a model's config.json is judged before anything starts.
"""

from collections.abc import Mapping
from typing import Any

# What models do to their logits after the head, under the names of their configurations; None and 1 do nothing.
LOGIT_TRANSFORMS = {
    "final_logit_softcapping": "caps its logits",  # Gemma
    "logits_soft_cap": "caps its logits",  # RecurrentGemma
    "output_logit_soft_cap": "caps its logits",  # xLSTM
    "logits_scaling": "divides its logits",  # Granite
    "logit_scale": "scales its logits",  # Cohere
    "lm_head_multiplier": "scales its logits",  # Falcon-H1
    "output_multiplier": "scales its logits",  # MuseGlimmer
}


def transform_problem(settings: Mapping[str, Any]) -> str | None:
    """Why a model with this config.json cannot be scored, as a sentence without its subject; None where it can.

    The logits' transform would be applied to what the fused head returns in their place, which are log-probs.
    """
    text = settings.get("text_config")
    for found in (settings, text if isinstance(text, Mapping) else {}):
        for name, what in LOGIT_TRANSFORMS.items():
            value = found.get(name)
            if value is not None and value != 1:
                return f"{what} after the LM head ({name} = {value}), which the fused LM head does not support"
    return None


def check_model(model: Any) -> None:
    """Raise TypeError where `model`, a causal LM of transformers, cannot be trained through the fused head."""
    if problem := transform_problem(model.config.to_dict()):
        raise TypeError(f"The model {problem}; choose another model.path.")
    head = model.get_output_embeddings()
    if head is None:
        raise TypeError(f"{type(model).__name__} names no LM head to score tokens with; choose another model.path.")
    check_head(head)


def check_head(head: Any) -> None:
    """Raise TypeError, naming what is in the way, where `head` is not a plain nn.Linear without bias."""
    from torch import nn

    problem = None
    if hasattr(head, "lora_A") or hasattr(head, "base_layer"):
        problem = "carries an adapter; leave the LM head out of the adapters"
    elif type(head) is not nn.Linear:
        problem = "is of another type, whose forward may differ (quantised, parametrised or the model's own)"
    elif head.bias is not None:
        problem = "has a bias"
    elif not head.weight.is_floating_point() or head.weight.itemsize < 2:
        problem = f"is quantised to {head.weight.dtype}"
    if problem:
        raise TypeError(f"The fused LM head supports a plain nn.Linear without bias; {head} {problem}.")
