"""Every experiment passes the check before a run, and has the settings of the table it cites."""

import re
from pathlib import Path

import pytest

from launch.config import CONF, RunConfig
from launch.validate import check
from tests.composed import compose

EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
OPEN, PPO, FREE = (1.0, 1.0), (0.2, 0.2), (None, None)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """A model and data to name; their content is not looked at here."""
    folder: Path = tmp_path_factory.mktemp("files")
    for name in ("config.json", "tokenizer.json", "model.safetensors", "train.parquet"):
        (folder / name).write_text("{}")
    return [f"model.path={folder}", f"data.path={folder / 'train.parquet'}"]


def composed(name: str, files: list[str]) -> RunConfig:
    return compose([f"experiment={name}", *(files[:1] if name.startswith("lab_") else files)])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_composes_and_is_valid(name, files):
    assert check(composed(name, files)) == []


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith(("cui_", "jin_"))])
def test_an_arm_of_a_paper_cites_its_table(name):
    text = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()[1]
    paper = "2505.22617" if name.startswith("cui_") else "2511.05993"
    assert re.match(rf"# .*arXiv {paper}\)?,? ?\)?.*table 2", text)


def controls(config: RunConfig) -> dict:
    return {name: section for name, section in vars(config.entropy).items() if section not in (None, False)}


@pytest.mark.parametrize(
    ("name", "clip", "rate", "learning_rate"),
    [
        ("cui_grpo", PPO, None, 5e-7),
        ("cui_grpo_32b", PPO, None, 1e-6),
        ("cui_clip_higher", (0.2, 0.28), None, 5e-7),
        ("cui_clip_higher_32b", (0.2, 0.28), None, 1e-6),
        ("cui_clip_cov", OPEN, 2e-4, 5e-7),
        ("cui_clip_cov_32b", OPEN, 2e-4, 1e-6),
        ("cui_random_clip", OPEN, 2e-4, 5e-7),
        ("cui_kl_cov", FREE, 2e-3, 5e-7),
        ("cui_kl_cov_32b", FREE, 2e-4, 1e-6),
        ("cui_random_kl", FREE, 2e-3, 5e-7),
        ("cui_grpo_open", OPEN, None, 5e-7),
        ("cui_unclipped", FREE, None, 5e-7),
    ],
)
def test_arms_of_the_first_paper(name, clip, rate, learning_rate, files):
    config = composed(name, files)
    rollout = config.rollout
    assert (config.clip.low, config.clip.high) == clip
    assert (rollout.prompts_per_step, rollout.samples_per_prompt, rollout.max_new_tokens) == (256, 8, 8192)
    assert (rollout.temperature, rollout.top_p, rollout.top_k) == (1.0, 1.0, 0)
    assert config.model.context_tokens - rollout.max_new_tokens == 2048
    assert config.off_policy.updates_per_rollout == 8
    assert (config.learner.learning_rate, config.learner.schedule) == (learning_rate, "constant")
    assert (config.algorithm.denominator, config.algorithm.normalise, config.algorithm.dual_clip) == (
        "tokens",
        "group",
        None,
    )
    assert config.model.name == ("qwen2.5-32b" if name.endswith("_32b") else "qwen2.5-7b")
    assert [section.rate for section in controls(config).values()] == ([] if rate is None else [rate])
    if config.entropy.clip_cov:
        section = config.entropy.clip_cov
        assert (section.low, section.high, section.bounds, section.scope) == (1.0, 5.0, "absolute", "update")
        assert section.choice == ("random" if name == "cui_random_clip" else "covariance")
    if config.entropy.kl_cov:
        assert (config.entropy.kl_cov.coef, config.entropy.kl_cov.penalty) == (1.0, "abs")
        assert config.entropy.kl_cov.choice == ("random" if name == "cui_random_kl" else "covariance")


@pytest.mark.parametrize(
    ("name", "clip", "updates", "control"),
    [
        ("jin_n1", PPO, 1, None),
        ("jin_n2", PPO, 2, None),
        ("jin_n4", PPO, 4, None),
        ("jin_clip_higher", (0.2, 0.28), 4, None),
        ("jin_clip_lower", (0.28, 0.2), 4, None),
        ("jin_clip_tighter", (0.12, 0.2), 4, None),
        ("jin_clip_free", FREE, 4, None),
        ("jin_adaptive", PPO, 4, "adaptive_bonus"),
        ("jin_par_stage", PPO, 4, "positive_advantage"),
        ("jin_par_epoch", PPO, 4, "positive_advantage"),
        ("jin_par_guided", PPO, 4, "positive_advantage"),
        ("jin_positive_only", PPO, 4, "sign_only"),
        ("jin_negative_only", PPO, 4, "sign_only"),
        ("jin_rand_pos_clip", PPO, 4, "rand_pos_clip"),
        ("jin_clip_cov", OPEN, 4, "clip_cov"),
        ("jin_kl_cov", FREE, 4, "kl_cov"),
        ("jin_entropy_adv", PPO, 4, "entropy_advantage"),
    ],
)
def test_arms_of_the_second_paper(name, clip, updates, control, files):
    config = composed(name, files)
    assert (config.clip.low, config.clip.high) == clip
    assert config.off_policy.updates_per_rollout == updates
    assert list(controls(config)) == ([] if control is None else [control])
    assert (config.rollout.prompts_per_step, config.rollout.samples_per_prompt) == (256, 16)
    assert (config.rollout.max_new_tokens, config.rollout.temperature) == (4096, 1.0)
    assert (config.learner.learning_rate, config.learner.schedule, config.steps) == (1e-6, "cosine", 400)
    assert config.model.name == "qwen2.5-math-7b"


def test_settings_of_the_reweighting_arms(files):
    rules = {}
    for variant in ("stage", "epoch", "guided"):
        rules[variant] = composed(f"jin_par_{variant}", files).entropy.positive_advantage
        assert (rules[variant].rule, rules[variant].positive) == (variant, "above_zero")
    guided = rules["guided"]
    assert (guided.target, guided.step, guided.initial, guided.band) == (0.2, 0.05, 0.0, 0.0)
    assert (guided.lowest, guided.highest, rules["epoch"].epochs) == (0.0, 1.0, 6)
    assert composed("jin_adaptive", files).entropy.adaptive_bonus.target == 0.2
    assert composed("jin_positive_only", files).entropy.sign_only.keep == "positive"
    assert composed("jin_negative_only", files).entropy.sign_only.keep == "negative"


def test_random_arms_differ_from_theirs_in_the_choice_alone(files):
    for prefix in ("cui", "lab"):
        for chosen, random, section in (("clip_cov", "random_clip", "clip_cov"), ("kl_cov", "random_kl", "kl_cov")):
            one = getattr(composed(f"{prefix}_{chosen}", files).entropy, section)
            other = getattr(composed(f"{prefix}_{random}", files).entropy, section)
            assert {name for name, value in vars(one).items() if getattr(other, name) != value} == {"choice"}


def test_the_laboratory_is_scaled(files):
    clip_cov = composed("lab_clip_cov", files).entropy.clip_cov
    assert (clip_cov.rate, clip_cov.bounds, clip_cov.high) == (0.05, "quantile", 1.0)
    kl_cov = composed("lab_kl_cov", files).entropy.kl_cov
    assert (kl_cov.rate, kl_cov.coef) == (0.05, 2.0)
    assert composed("lab_par_guided", files).entropy.positive_advantage.target == 0.43
