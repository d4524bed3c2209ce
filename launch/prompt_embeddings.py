"""What the policy makes of a prompt: the mean of its last hidden states over the prompt's tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def open_policy(folder: str, dtype: str, device: str, trust_remote_code: bool) -> Any:
    """The model of `folder` without its LM head, ready for `mean_hidden_states`."""
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(
        folder, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code, use_safetensors=True
    )
    return model.to(device).eval()


@torch.inference_mode()
def mean_hidden_states(policy: Any, prompts: Sequence[np.ndarray], prompts_per_batch: int) -> np.ndarray:
    """Float32 [prompts, hidden]: the last layer after its norm, averaged in float64 over the tokens of each prompt.

    Prompts of like length share a batch, padded on the right, where no token of a causal model sees the padding.

    prompts  int [tokens] each, none empty
    """
    longest_first = sorted(range(len(prompts)), key=lambda position: -len(prompts[position]))
    found = np.empty((len(prompts), policy.config.get_text_config().hidden_size), np.float32)
    for start in range(0, len(prompts), prompts_per_batch):
        batch = longest_first[start : start + prompts_per_batch]
        lengths = [len(prompts[position]) for position in batch]
        tokens = np.zeros((len(batch), lengths[0]), np.int64)
        real = np.zeros_like(tokens)
        for row, (position, length) in enumerate(zip(batch, lengths, strict=True)):
            tokens[row, :length] = prompts[position]
            real[row, :length] = 1
        states = policy(
            input_ids=torch.from_numpy(tokens).to(policy.device),
            attention_mask=torch.from_numpy(real).to(policy.device),
            use_cache=False,
        ).last_hidden_state
        for row, (position, length) in enumerate(zip(batch, lengths, strict=True)):
            found[position] = states[row, :length].double().mean(0).float().cpu().numpy()
    return found
