"""Low-rank adapters (LoRA, Hu et al. 2022) through peft, and the weights that a model with them amounts to."""

from dataclasses import dataclass

import torch
from torch import nn

BASE = ".base_layer"


@dataclass(frozen=True)
class Merged:
    """One parameter as the engines know it, and what it is made of.

    name   as in a checkpoint without adapters
    parts  its weight alone, or its weight [out, in] with an adapter's A [rank, in] and B [out, rank]
    scale  of B @ A
    """

    name: str
    parts: tuple[nn.Parameter, ...]
    scale: float

    def value(self) -> torch.Tensor:
        """The parameter in full, in its own dtype; the parts must be whole.

        With an adapter it is a new tensor: product and sum in float32 at least, rounded once.
        """
        weight = self.parts[0].detach()
        if len(self.parts) == 1:
            return weight
        exact = torch.promote_types(weight.dtype, torch.float32)
        a, b = (part.detach().to(exact) for part in self.parts[1:])
        return torch.addmm(weight.to(exact), b, a, alpha=self.scale).to(weight.dtype)


def add_adapters(model: nn.Module, rank: int, alpha: float, seed: int) -> None:
    """Put an adapter beside every linear layer but the LM head, in place; only adapters are trained from then on.

    A is drawn from `seed`, the same on every rank, and B is zero: the policy is what it was.
    """
    from peft import LoraConfig, inject_adapter_in_model

    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        target_modules=linear,
        lora_dropout=0.0,
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def merged_parameters(model: nn.Module) -> list[Merged]:
    """Every parameter of `model` under its name without adapters; a tied one appears once."""
    modules = dict(model.named_modules())
    found = []
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        owner = name.rpartition(".")[0]
        if not owner.endswith(BASE):
            found.append(Merged(name, (parameter,), 1.0))
            continue
        layer = modules[owner.removesuffix(BASE)]
        plain = name.replace(BASE, "")
        if not name.endswith(".weight"):  # a bias
            found.append(Merged(plain, (parameter,), 1.0))
            continue
        (adapter,) = layer.active_adapters  # type: ignore[union-attr, misc]
        factors = (layer.lora_A[adapter].weight, layer.lora_B[adapter].weight)  # type: ignore[index, union-attr]
        found.append(Merged(plain, (parameter, *factors), float(layer.scaling[adapter])))  # type: ignore[index, arg-type]
    return found
