"""Each bad setting has its sentence, all come at once, and the implied sizes are those of a calculation by hand."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from launch import laboratory
from launch.config import ConfigError, RunConfig
from launch.limits import BOUNDS, CHOICES
from launch.ray_job import JOB_MARK
from launch.validate import Implied, check, implied, raise_if_any, sentences
from tests.composed import compose


def changed(config, setting: str, value):
    """`config` with the dotted setting replaced."""
    name, _, rest = setting.partition(".")
    if isinstance(config, dict):
        return config | {name: changed(config[name], rest, value)}
    return replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


def errors(config: RunConfig, **settings) -> list[str]:
    for setting, value in settings.items():
        config = changed(config, setting.replace("__", "."), value)
    return check(config)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "96"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture(scope="module")
def config(model_folder) -> RunConfig:
    return compose([f"model.path={model_folder}"])


@pytest.fixture(scope="module")
def file_config(model_folder, tmp_path_factory) -> RunConfig:
    file = tmp_path_factory.mktemp("data") / "train.jsonl"
    file.touch()
    return compose([f"model.path={model_folder}", "data=gsm8k", f"data.path={file}"])


def test_the_defaults_are_right(config, file_config):
    assert check(config) == []
    assert check(file_config) == []
    raise_if_any(config)


def test_a_group_of_one(config):
    assert errors(config, rollout__samples_per_prompt=1) == [
        "rollout.samples_per_prompt = 1 leaves a response nothing to be compared with; "
        "algorithm.estimator = grpo needs at least 2."
    ]


def test_prompts_that_do_not_divide(config):
    assert errors(config, rollout__prompts_per_step=30) == [
        "rollout.prompts_per_step = 30 does not divide into off_policy.minibatches = 4 equal parts."
    ]


def test_more_ranks_than_responses_of_an_update(config):
    few = {"rollout__prompts_per_step": 4, "rollout__samples_per_prompt": 2}
    assert errors(config, **few, learner__ranks=2) == []
    assert errors(config, **few, learner__ranks=3) == [
        "learner.ranks = 3 is more than the responses of one update: rollout.prompts_per_step x "
        "rollout.samples_per_prompt = 8 over off_policy.minibatches = 4."
    ]


def test_a_warmup_that_never_ends(config):
    assert errors(config, learner__warmup_updates=239) == []
    assert errors(config, learner__warmup_updates=240) == [
        "learner.warmup_updates = 240 is not below the 240 updates of the run; lower it or raise steps."
    ]


@pytest.mark.parametrize("setting", CHOICES)
def test_an_unknown_word_lists_the_known_ones(config, setting):
    unknown = 4 if setting == "learner.zero_stage" else "best"
    known = ", ".join(map(str, CHOICES[setting]))
    assert check(changed(config, setting, unknown)) == [f"{setting} = {unknown} is not one of {known}."]


def test_the_words_are_those_of_the_schema():
    assert CHOICES["learner.zero_stage"] == (0, 1, 2, 3)
    assert CHOICES["learner.schedule"] == ("constant", "linear", "cosine")
    assert CHOICES["rollout.weight_transfer"] == ("auto", "host", "nccl", "ipc")
    assert CHOICES["reward.on_failure"] == ("exclude", "wrong", "abort")


@pytest.mark.parametrize(
    ("setting", "bad", "good", "sentence"),
    [
        ("steps", 0, 1, "steps = 0 has to be at least 1."),
        ("rollout.engines", 0, 1, "rollout.engines = 0 has to be at least 1."),
        ("rollout.kv_cache_blocks", 0, None, "rollout.kv_cache_blocks = 0 has to be at least 1."),
        ("learner.threads", -1, None, "learner.threads = -1 has to be at least 1."),
        ("seed", -1, 0, "seed = -1 must not be negative."),
        ("evaluation.every", -1, 0, "evaluation.every = -1 must not be negative."),
        ("evaluation.temperature", -0.1, 0.0, "evaluation.temperature = -0.1 must not be negative."),
        ("rollout.temperature", 0.0, 0.1, "rollout.temperature = 0.0 has to be above 0."),
        ("rollout.deadline_s", float("nan"), 1.0, "rollout.deadline_s = nan has to be above 0."),
        ("learner.learning_rate", 0.0, 1e-9, "learner.learning_rate = 0.0 has to be above 0."),
        ("clip.low", 0.0, 1.0, "clip.low = 0.0 has to be above 0."),
        ("clip.low", 1.1, 1.0, "clip.low = 1.1 has to be at most 1."),
        ("clip.high", -0.2, 10.0, "clip.high = -0.2 has to be above 0."),
        ("evaluation.top_p", 1.5, 0.9, "evaluation.top_p = 1.5 has to be at most 1."),
        ("evaluation.min_p", 1.5, 1.0, "evaluation.min_p = 1.5 has to be at most 1."),
        ("rollout.min_p", -0.1, 0.0, "rollout.min_p = -0.1 must not be negative."),
        ("reward.max_failure_share", -0.5, 0.0, "reward.max_failure_share = -0.5 must not be negative."),
        ("reward.max_failure_share", 1.5, 1.0, "reward.max_failure_share = 1.5 has to be at most 1."),
        ("algorithm.dual_clip", 1.0, 3.0, "algorithm.dual_clip = 1.0 has to be above 1."),
        ("reference.actors", 0, 2, "reference.actors = 0 has to be at least 1."),
        ("reference.coef", -0.1, 0.0, "reference.coef = -0.1 must not be negative."),
        ("learner.row_tokens", 0, 1, "learner.row_tokens = 0 has to be at least 1."),
        ("off_policy.max_staleness", -1, 0, "off_policy.max_staleness = -1 must not be negative."),
        ("learner.beta2", 1.0, 0.0, "learner.beta2 = 1.0 has to be from 0 to below 1."),
    ],
)
def test_numbers_out_of_bounds(config, setting, bad, good, sentence):
    assert check(changed(config, setting, bad)) == [sentence]
    assert check(changed(config, setting, good)) == []


def test_every_bounded_setting_exists_and_is_bounded_once_a_way(config):
    for settings, _, _ in BOUNDS:
        assert len(set(settings)) == len(settings)
        for setting in settings:
            value = config
            for name in setting.split("."):
                value = getattr(value, name)
            assert value is None or isinstance(value, int | float), setting


@pytest.mark.parametrize(("setting", "value"), [("top_p", 0.9), ("top_k", 50), ("min_p", 0.05)])
def test_cut_sampling_is_refused_for_training_only(config, setting, value):
    assert check(changed(config, f"evaluation.{setting}", value)) == []
    [sentence] = check(changed(config, f"rollout.{setting}", value))
    whole = {"top_p": "1.0", "top_k": "0", "min_p": "0.0"}[setting]
    assert sentence.startswith(f"rollout.{setting} = {value} has to be {whole}: the probability ratio compares")


def test_a_stop_that_is_none_is_refused(config):
    assert check(changed(config, "rollout.stop", ["\n\n"])) == []
    [sentence] = check(changed(config, "rollout.stop", ["a", ""]))
    assert sentence == "rollout.stop holds an empty text, at which every response would end; leave it out."
    laboratory, size = compose([]), 640
    assert check(changed(laboratory, "evaluation.stop_token_ids", [0, size - 1])) == []
    [sentence] = check(changed(laboratory, "evaluation.stop_token_ids", [size]))
    assert sentence == (
        f"evaluation.stop_token_ids: {size} is no token; it has to be at least 0 and below the model's vocabulary of "
        f"{size}."
    )


def test_evaluation_stops_where_training_does_unless_told_otherwise():
    both = compose(["rollout.stop=[END]", "rollout.stop_token_ids=[-3]"])
    assert (both.evaluation.stop, both.evaluation.stop_token_ids) == (["END"], [-3])
    assert len(check(both)) == 1
    assert compose(["rollout.stop=[END]", "evaluation.stop=[]"]).evaluation.stop == []


def test_responses_that_do_not_fit(config):
    assert errors(config, rollout__max_new_tokens=2048) == [
        "rollout.max_new_tokens = 2048 leaves no room for a prompt in model.context_tokens = 2048."
    ]
    assert errors(config, learner__tokens_per_microbatch=48) == []
    assert errors(config, learner__tokens_per_microbatch=47) == [
        "learner.tokens_per_microbatch = 47 does not hold one response of rollout.max_new_tokens = 48."
    ]


def test_a_step_of_verdicts_that_ends_before_one_may(config):
    assert errors(config, learner__deadline_s=59.0) == [
        "learner.deadline_s = 59.0 ends before a transfer of weights may, rollout.sync_timeout_s = 60.0."
    ]
    assert errors(config, reward__deadline_s=4.0) == [
        "reward.deadline_s = 4.0 ends before a single verdict may, reward.timeout_s = 5.0."
    ]


@pytest.mark.parametrize("transfer", ["nccl", "ipc"])
def test_gpu_transfer_on_cpu(config, transfer):
    colocated = {"rollout__colocated": True, "rollout__engines": config.learner.ranks} if transfer == "ipc" else {}
    assert errors(config, cluster__device="cuda", rollout__weight_transfer=transfer, **colocated) == []
    assert errors(config, cluster__device="cpu", rollout__weight_transfer=transfer) == [
        f"rollout.weight_transfer = {transfer} needs GPUs, and cluster.device is cpu; use auto or host."
    ]


@pytest.mark.parametrize("kernel", ["flex_attention", "flash_attention_2"])
def test_attention_kernels_that_need_gpus(config, kernel):
    gpu = {"cluster__device": "cuda", "model__dtype": "bfloat16", "learner__attention": kernel}
    assert errors(config, **gpu) == []
    assert errors(config, **gpu | {"cluster__device": "cpu"}) == [
        f"learner.attention = {kernel} needs GPUs, and cluster.device is cpu; use sdpa."
    ]


def test_flash_attention_needs_half_precision(config):
    assert errors(config, cluster__device="cuda", learner__attention="flash_attention_2") == [
        "learner.attention = flash_attention_2 needs model.dtype = bfloat16, and it is float32; use sdpa."
    ]


def test_offloading_needs_shards(config):
    assert errors(config, learner__offload_optimizer=True) == []
    assert errors(config, learner__offload_optimizer=True, learner__zero_stage=0) == [
        "learner.offload_optimizer needs learner.zero_stage of 1 or more: at 0 there are no shards to offload."
    ]
    assert errors(config, learner__offload_parameters=True, learner__zero_stage=3) == []
    assert errors(config, learner__offload_parameters=True, learner__zero_stage=2) == [
        "learner.offload_parameters needs learner.zero_stage = 3, and it is 2."
    ]


def test_adapters_have_a_rank_and_a_scale(config):
    assert errors(config, learner__lora_rank=8, learner__lora_alpha=16.0) == []
    assert errors(config, learner__lora_rank=8) == ["learner.lora_alpha is needed with learner.lora_rank = 8."]
    assert errors(config, learner__lora_alpha=16.0) == [
        "learner.lora_alpha = 16.0 is without effect unless learner.lora_rank is given."
    ]
    assert errors(config, learner__lora_rank=0, learner__lora_alpha=1.0) == [
        "learner.lora_rank = 0 has to be at least 1."
    ]


def test_a_folder_of_the_reference_policy(config, model_folder, tmp_path):
    config = changed(config, "reference", replace(config.reference, place="loss", coef=0.1))
    assert errors(config, reference__path=str(model_folder)) == []
    assert errors(config, reference__path="/no/model") == [
        "reference.path: /no/model is neither a folder nor the name of a model in the Hugging Face cache."
    ]
    (tmp_path / "config.json").write_text("{}")
    assert errors(config, reference__path=str(tmp_path)) == [
        f"reference.path: {tmp_path} has no weights (*.safetensors)."
    ]


def test_a_threshold_may_be_missing(config):
    assert errors(config, clip__low=None, clip__high=None) == []


def test_a_cluster_without_an_address(config):
    [sentence] = errors(config, cluster__kind="ray")
    assert sentence.startswith("cluster.address is needed for cluster.kind = ray")


@pytest.mark.parametrize("kind", ["local", "auto"])
def test_an_address_that_nobody_would_join(config, kind, monkeypatch):
    monkeypatch.delenv(JOB_MARK, raising=False)
    assert errors(config, cluster__kind="ray", cluster__address="10.0.0.1:6379") == []
    assert errors(config, cluster__kind=kind, cluster__address="10.0.0.1:6379") == [
        f"cluster.address = 10.0.0.1:6379 names a cluster to join, and cluster.kind = {kind} starts a Ray on this "
        "machine; give cluster.kind=ray, or leave the address out."
    ]
    monkeypatch.setenv(JOB_MARK, "{}")
    assert (errors(config, cluster__kind=kind, cluster__address="10.0.0.1:6379") == []) == (kind == "auto")


def test_an_engine_over_several_gpus_on_cpu(config):
    assert errors(config, cluster__device="cuda", rollout__tensor_parallel_size=2) == []
    assert errors(config, cluster__device="cpu", rollout__tensor_parallel_size=2) == [
        "rollout.tensor_parallel_size = 2 spreads an engine over GPUs, and cluster.device is cpu; give 1."
    ]


def test_more_updates_than_prompts(config):
    assert errors(config, rollout__prompts_per_step=16, off_policy__minibatches=16) == []
    assert errors(config, rollout__prompts_per_step=8, off_policy__minibatches=16) == [
        "rollout.prompts_per_step = 8 does not divide into off_policy.minibatches = 16 equal parts."
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"evaluation__temperature": 0.0},  # the same response k times, and still the right accuracy
        {"cluster__device": "cpu", "rollout__kv_cache_blocks": None},  # rollout=gpu is about sizes
        {"reward__on_failure": "abort"},
        {"algorithm__normalise": "none"},
        {"cluster__device": "auto", "rollout__tensor_parallel_size": 2},
    ],
)
def test_settings_without_effect_are_no_contradictions(config, settings):
    assert errors(config, **settings) == []


def test_a_model_folder_that_is_not_there(config, model_folder):
    missing = str(model_folder.parent / "64")
    assert errors(config, model__path=missing) == [f"model.path: there is no folder {missing}."]


def test_a_width_that_is_not_built(config, tmp_path, monkeypatch):
    monkeypatch.setattr("launch.model_folder.ASSETS", tmp_path)
    folder = tmp_path / "laboratory" / "64"
    assert errors(config, model__path=str(folder), model__width=64) == [
        f"model.width = 64 is not built: there is no folder {folder}; "
        "python -m launch.laboratory --width 64 builds it.",
    ]
    assert errors(config, model__width=100) == ["model.width = 100 is not one of 64, 96, 160."]
    assert CHOICES["model.width"] == tuple(laboratory.WIDTHS)


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer (tokenizer.json or tokenizer.model)"),
        ("model.safetensors", "weights (*.safetensors)"),
    ],
)
def test_a_model_folder_that_lacks_a_file(config, model_folder, tmp_path, file, what):
    for present in model_folder.iterdir():
        if present.name != file:
            shutil.copy(present, tmp_path)
    assert errors(config, model__path=str(tmp_path)) == [f"model.path: {tmp_path} has no {what}."]


def test_a_data_file_that_is_not_there(file_config):
    assert errors(file_config, data__train__path="/no/such.jsonl") == [
        "data.train.path: there is no file /no/such.jsonl."
    ]


def test_a_source_that_lacks_what_its_kind_needs(config, file_config):
    assert errors(config, data__train__task=None, data__train__seed=None) == [
        "data.train.task is needed for kind reasoning_gym.",
        "data.train.seed is needed for kind reasoning_gym.",
    ]
    assert errors(file_config, data__train__gold_field=None) == ["data.train.gold_field is needed for kind file."]


def test_a_source_with_wrong_values(config):
    assert errors(config, data__train__kind="parquet") == [
        "data.train.kind = parquet is not one of reasoning_gym, file."
    ]
    assert errors(config, data__evaluation__heldout__template="question") == [
        "data.evaluation.heldout.template has no {prompt} in it, so every prompt would read the same."
    ]
    assert errors(config, data__train__first_row=-1) == ["data.train.first_row = -1 must not be negative."]
    assert errors(config, data__evaluation__heldout__rows=0) == [
        "data.evaluation.heldout.rows = 0 has to be at least 1."
    ]
    [sentence] = errors(config, data__train__verifier="mahts")
    assert sentence.startswith(
        "data.train.verifier: unknown verifier 'mahts'; known are code, countdown, instructions, math"
    )


def test_an_evaluation_set_named_like_the_training_set(config):
    evaluation = {"train": config.data.evaluation["heldout"]}
    [sentence] = errors(config, data__evaluation=evaluation)
    assert sentence.startswith("data.evaluation.train: prompts are named after their set")


def test_fewer_rows_than_a_step_takes(config):
    assert errors(config, data__train__rows=31) == ["rollout.prompts_per_step = 32 is more than data.train.rows = 31."]


def test_reasoning_gym_seeds_whose_rows_overlap(config):
    """Row i of seed s is row i - 1 of seed s + 1."""
    begin, rows = config.data.train.seed, config.data.train.rows
    for seed in (begin, begin + 1, begin + rows - 1):
        [sentence] = errors(config, data__evaluation__heldout__seed=seed)
        assert sentence.startswith(f"data.evaluation.heldout.seed = {seed} repeats rows of data.train, whose seed is")
    before = config.data.evaluation["heldout"].rows
    for seed in (begin + rows, begin - before):
        assert errors(config, data__evaluation__heldout__seed=seed) == []
    assert len(errors(config, data__evaluation__heldout__seed=begin - before + 1)) == 1
    assert errors(config, data__evaluation__heldout__seed=begin, data__evaluation__heldout__task="other") == []


def test_all_errors_come_in_one_message(config):
    wrong = changed(changed(config, "rollout.prompts_per_step", 30), "rollout.top_k", 5)
    wrong = changed(changed(wrong, "model.path", "/no/model"), "data.train.verifier", "mahts")
    found = check(wrong)
    assert len(found) == 4
    with pytest.raises(ConfigError) as caught:
        raise_if_any(wrong)
    assert str(caught.value) == "\n".join(found)
    out_of_bounds = check(changed(changed(wrong, "off_policy.minibatches", 0), "learner.schedule", "steep"))
    assert "off_policy.minibatches = 0 has to be at least 1." in out_of_bounds
    assert "learner.schedule = steep is not one of constant, linear, cosine." in out_of_bounds
    assert set(found) - set(out_of_bounds) == {
        "rollout.prompts_per_step = 30 does not divide into off_policy.minibatches = 4 equal parts."
    }


def test_implied_sizes_by_hand(config):
    assert implied(config) == Implied(
        steps=60,
        prompts_per_step=32,
        samples_per_prompt=8,
        responses_per_step=256,  # 32 x 8
        minibatches=4,
        epochs=1,
        updates_per_rollout=4,
        prompts_per_update=8,  # 32 / 4
        responses_per_update=64,  # 8 x 8
        max_response_tokens_per_step=12288,  # 256 x 48
        max_response_tokens_per_update=3072,  # 64 x 48
        total_updates=240,  # 60 x 4
    )
    assert sentences(implied(config)) == [
        "32 prompts x 8 samples = 256 responses per step, at most 12,288 tokens",
        "4 updates per rollout (4 minibatches x 1 epoch), 8 prompts = 64 responses each, at most 3,072 tokens",
        "60 steps = 240 updates",
    ]


def test_implied_sizes_with_epochs(config):
    config = changed(changed(config, "off_policy.epochs", 3), "off_policy.minibatches", 1)
    sizes = implied(changed(config, "steps", 1))
    assert (sizes.updates_per_rollout, sizes.responses_per_update, sizes.total_updates) == (3, 256, 3)
    assert sentences(sizes)[1].startswith("3 updates per rollout (1 minibatch x 3 epochs), 32 prompts = 256 responses")
    assert sentences(sizes)[2] == "1 step = 3 updates"


def test_times_of_programs_fit_into_those_of_a_verdict(file_config):
    slow = {"reward__code__total_timeout_s": 5.0, "reward__sandbox__memory_mb": 2048}
    assert errors(file_config, **slow) == []  # no program is judged
    source = {"data__train": replace(file_config.data.train, verifier="code")}
    assert errors(file_config, **source) == []
    assert errors(file_config, **source, **slow) == [
        "reward.code.total_timeout_s = 5.0 has to be below reward.timeout_s = 5.0, or a slow program is a failure "
        "instead of a wrong answer.",
        "reward.sandbox.memory_mb = 2048 is more than reward.memory_mb = 1024 leaves to what a verifier starts.",
    ]
    assert errors(file_config, **source, reward__code__test_timeout_s=4.5) == [
        "reward.code.test_timeout_s = 4.5 is more than all tests of a program have together, "
        "reward.code.total_timeout_s = 4.0."
    ]
