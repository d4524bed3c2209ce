"""A model whose logits are more than a product with its LM head's weight is refused, and the refusal says why."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoConfig

from launch.config import ModelConfig
from launch.model_folder import problems
from learner.fused_head import ScoringHead
from learner.head_support import check_model, transform_problem


class OtherLinear(nn.Linear):
    """A head whose forward may differ from a plain product."""


class Adapter(nn.Module):
    """What a LoRA library puts in a layer's place."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer, self.lora_A = layer, nn.ModuleDict()


def quantised():
    head = nn.Linear(2, 3, bias=False)
    head.weight = nn.Parameter(head.weight.to(torch.float8_e4m3fn), requires_grad=False)
    return head


HEADS = {
    "has a bias": nn.Linear(2, 3),
    "is of another type": OtherLinear(2, 3, bias=False),
    "carries an adapter": Adapter(nn.Linear(2, 3, bias=False)),
    "is quantised to torch.float8_e4m3fn": quantised(),
    "(quantised, parametrised or the model's own)": nn.utils.parametrizations.weight_norm(nn.Linear(2, 3, bias=False)),
}


@pytest.mark.parametrize("what", HEADS)
def test_scoring_head_refuses_what_it_would_get_wrong(what):
    with pytest.raises(TypeError, match=r"plain nn\.Linear without bias") as refusal:
        ScoringHead(HEADS[what], 4)
    assert what in str(refusal.value)


def model(settings, head):
    return SimpleNamespace(config=SimpleNamespace(to_dict=lambda: settings), get_output_embeddings=lambda: head)


def test_a_model_is_refused_for_its_head_or_for_what_comes_after():
    plain = nn.Linear(2, 3, bias=False)
    check_model(model({}, plain))
    with pytest.raises(TypeError, match="has a bias"):
        check_model(model({}, nn.Linear(2, 3)))
    with pytest.raises(TypeError, match="names no LM head"):
        check_model(model({}, None))
    with pytest.raises(TypeError, match=r"caps its logits after the LM head \(final_logit_softcapping = 30\.0\)"):
        check_model(model({"final_logit_softcapping": 30.0}, plain))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("gemma2", "final_logit_softcapping"),
        ("recurrent_gemma", "logits_soft_cap"),
        ("cohere", "logit_scale"),
    ],
)
def test_families_that_transform_their_logits_are_known(family, name):
    assert f"({name} = " in transform_problem(AutoConfig.for_model(family).to_dict())


@pytest.mark.parametrize("family", ["granite", "falcon_h1"])
def test_a_factor_of_one_is_no_transform(family):
    assert transform_problem(AutoConfig.for_model(family).to_dict()) is None
    assert "logits_scaling = 8.0" in transform_problem({"logits_scaling": 8.0})
    assert "lm_head_multiplier = 0.5" in transform_problem({"lm_head_multiplier": 0.5})


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral", "olmo2"])
def test_plain_families_are_not_refused(family):
    assert transform_problem(AutoConfig.for_model(family).to_dict()) is None


def test_the_text_part_of_a_larger_model_counts():
    assert "final_logit_softcapping" in transform_problem({"text_config": {"final_logit_softcapping": 30.0}})


def test_a_folder_is_refused_before_anything_starts(tmp_path):
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text(json.dumps({"logits_scaling": 8.0}))
    [sentence] = problems(ModelConfig("mine", None, str(tmp_path), "bfloat16", 4096, False))
    assert sentence == (
        f"model.path: the model in {tmp_path} divides its logits after the LM head (logits_scaling = 8.0), which the "
        "fused LM head does not support; choose another model."
    )
