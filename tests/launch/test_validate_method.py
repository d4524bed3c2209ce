"""Every option of a method is complete, and each combination that would ignore or lack a setting has its sentence."""

import pytest

from launch.config import CONF
from launch.validate_method import method_problems
from tests.composed import compose


def problems(*overrides: str) -> list[str]:
    return list(method_problems(compose(overrides)))


@pytest.mark.parametrize("group", ["algorithm", "clip", "correction", "reference", "entropy", "off_policy"])
def test_every_option_by_itself_is_a_whole_method(group):
    for file in (CONF / group).glob("*.yaml"):
        if file.stem != "base":
            assert problems(f"{group}={file.stem}") == [], file.stem


def under(setting: str, owner: str) -> str:
    return f"{setting} is without effect under {owner}; give null."


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "algorithm=cispo clip=ppo",
            "clip.low = 0.2 and clip.high = 0.2 are without effect under algorithm.surrogate = cispo; add clip=none.",
        ),
        (
            "experiment=lab_grpo algorithm=sapo clip.low=null",
            "clip.high = 0.2 is without effect under algorithm.surrogate = sapo; add clip=none.",
        ),
        (
            "algorithm=cispo algorithm.cispo_cap=null",
            "algorithm.cispo_cap is needed under algorithm.surrogate = cispo.",
        ),
        ("algorithm.cispo_cap=5", under("algorithm.cispo_cap = 5.0", "algorithm.surrogate = ppo")),
        (
            "algorithm=sapo algorithm.sapo_temperature_negative=null",
            "algorithm.sapo_temperature_negative is needed under algorithm.surrogate = sapo.",
        ),
        (
            "algorithm=ce_gppo algorithm.sapo_temperature_positive=1",
            under("algorithm.sapo_temperature_positive = 1.0", "algorithm.surrogate = ce_gppo"),
        ),
        (
            "algorithm=ce_gppo algorithm.dual_clip=3",
            under("algorithm.dual_clip = 3.0", "algorithm.surrogate = ce_gppo"),
        ),
        (
            "algorithm=ce_gppo clip.high=null",
            "clip.high is needed under algorithm.surrogate = ce_gppo, which keeps a gradient beyond it.",
        ),
        (
            "algorithm=ce_gppo algorithm.ratio=sequence",
            "algorithm.surrogate = ce_gppo keeps gradients of single tokens, and algorithm.ratio = sequence has one "
            "for the sequence; give algorithm.ratio=token.",
        ),
        ("algorithm.pass_k=2", under("algorithm.pass_k = 2", "algorithm.estimator = grpo")),
        (
            "algorithm=pass_at_k algorithm.pass_k=null",
            "algorithm.pass_k is needed under algorithm.estimator = pass_at_k.",
        ),
        (
            "algorithm=pass_at_k rollout.samples_per_prompt=4",
            "algorithm.pass_k = 4 has to be below rollout.samples_per_prompt = 4: otherwise a group is one draw of k "
            "responses, with nothing to compare it with.",
        ),
        (
            "algorithm=pass_at_k reference=reward",
            "reference.place = reward makes partial scores, and algorithm.estimator = pass_at_k takes 0 and 1 only; "
            "use reference=loss or another algorithm.",
        ),
        (
            "algorithm=reinforce reference=reward",
            "reference.place = reward makes partial scores, and algorithm.estimator = reinforce takes 0 and 1 only; "
            "use reference=loss or another algorithm.",
        ),
        (
            "algorithm=reinforce algorithm.normalise=group",
            "algorithm.normalise = group does not go with algorithm.estimator = reinforce, whose advantages are 1 and "
            "-1 as they are; give none.",
        ),
        (
            "algorithm=reinforce_pp_baseline algorithm.normalise=none",
            "algorithm.normalise = none makes algorithm.estimator = reinforce_pp_baseline the same as grpo; "
            "give batch, or "
            "the estimator grpo.",
        ),
        (
            "algorithm=reinforce_pp algorithm.normalise=group",
            "algorithm.normalise = group does not go with algorithm.estimator = reinforce_pp, which compares with the "
            "batch; give batch or none.",
        ),
        (
            "algorithm.denominator=constant",
            "algorithm.denominator_tokens is needed under algorithm.denominator = constant.",
        ),
        (
            "algorithm=dr_grpo algorithm.denominator=tokens",
            under("algorithm.denominator_tokens = 48", "algorithm.denominator = tokens"),
        ),
        ("reference.coef=0.1", "reference.coef = 0.1 is without effect; add reference=loss or reference=reward."),
        ("reference.path=/m", "reference.path = /m is without effect; add reference=loss or reference=reward."),
        ("correction.high=2", under("correction.high = 2.0", "correction.kind = none")),
        (
            "correction=tis correction.high=null",
            "correction.high is needed under correction.kind = token_truncate, which caps ratios there.",
        ),
        (
            "correction=tis correction.low=0.5",
            under("correction.low = 0.5", "correction.kind = token_truncate, which only caps"),
        ),
        (
            "correction=sequence_mask correction.high=null",
            "correction.low or correction.high is needed under correction.kind = sequence_mask.",
        ),
        (
            "correction=icepop correction.low=1",
            "correction.low = 1.0 has to be below 1, or tokens are dropped on which engine and learner agree.",
        ),
        (
            "correction=icepop correction.high=1",
            "correction.high = 1.0 has to be above 1, or tokens are dropped on which engine and learner agree.",
        ),
        (
            "algorithm=gspo correction=tis",
            "correction.kind = token_truncate weighs single tokens, and algorithm.ratio = sequence has one ratio for "
            "all of a sequence; take a kind for sequences, such as correction=sequence_mask.",
        ),
    ],
)
def test_a_wrong_combination_has_its_sentence(overrides, sentence):
    assert problems(*overrides.split()) == [sentence]


@pytest.mark.parametrize(
    "overrides",
    [
        "algorithm=gspo clip=ppo",
        "algorithm=gspo correction=geometric_mask",
        "algorithm=cispo algorithm.ratio=sequence",
        "algorithm=dapo clip=none",
        "algorithm=grpo algorithm.normalise=batch",
        "algorithm=reinforce_pp rollout.samples_per_prompt=1",
        "reference=loss reference.coef=0",
    ],
)
def test_unusual_methods_are_methods(overrides):
    assert problems(*overrides.split()) == []
