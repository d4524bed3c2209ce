"""conf/ and the dataclasses agree, and every way to misspell a setting ends in a sentence."""

import operator
import os
import re
import subprocess
import sys
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import yaml

from launch import laboratory_corpus
from launch.config import CONF, ConfigError, RunConfig
from launch.misspelt import FORMER
from launch.optional import without_none
from launch.prepare import evaluation_sources, training_sources
from reward.config import RewardConfig
from rollout.config import SourceConfig
from tests.composed import compose

ROOT = Path(__file__).resolve().parents[2]
TRAIN = yaml.safe_load((CONF / "train.yaml").read_text())
GROUPS = {group: option for choice in TRAIN["defaults"] if isinstance(choice, dict) for group, option in choice.items()}
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
GROUPS = {group: option for group, option in GROUPS.items() if not group.startswith("override") and option is not None}
OPTIONS = [
    (group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml")) if file.stem != "base"
]
DATA = [option for group, option in OPTIONS if group == "data"]
NEEDED = {f"data={option}": ["data.path=/data/train.jsonl"] for option in DATA if option != "laboratory"}
NEEDED["model=local"] = ["model.path=/models/some"]
NEEDED["data=file"] += ["data.train.prompt_field=question", "data.train.gold_field=answer"]


def settings_of(file: Path) -> dict:
    values = yaml.safe_load(file.read_text())
    return {key: value for key, value in values.items() if key not in ("defaults", "hydra")}


def disjoint_union(*parts) -> set:
    keys = [key for part in parts for key in part]
    assert len(keys) == len(set(keys)), "a setting has two defaults"
    return set(keys)


def field_names(kind) -> set:
    return {field.name for field in fields(kind)}


def test_entry_has_one_default_for_every_setting_outside_the_groups():
    values = settings_of(CONF / "train.yaml")
    assert disjoint_union(values, GROUPS) == field_names(RunConfig)
    hints = get_type_hints(RunConfig)
    for section in ("evaluation", "output"):
        assert set(values[section]) == field_names(hints[section])


@pytest.mark.parametrize(
    ("group", "option"), [each for each in OPTIONS if each[0] != "entropy"], ids=lambda value: value
)
def test_option_and_base_have_one_default_for_every_setting(group, option):
    base = CONF / group / "base.yaml"
    values = settings_of(CONF / group / f"{option}.yaml")
    shared = settings_of(base) if base.exists() else {}
    # data/math500 and its like have no source to train on but the one that their defaults name.
    sources = {"train"} if group == "data" and "train" not in values else set()
    if group == "reward":  # its sections are groups of their own
        sources = {name for name in field_names(RewardConfig) if (CONF / group / name).is_dir()}
    assert disjoint_union(values, shared, sources) == field_names(get_type_hints(RunConfig)[group])


REWARD_SECTIONS = sorted(file.relative_to(CONF / "reward") for file in (CONF / "reward").glob("*/*.yaml"))


@pytest.mark.parametrize("file", REWARD_SECTIONS, ids=str)
def test_a_preset_of_a_verifier_has_a_default_for_every_setting(file):
    section, preset = file.parent.name, file.stem
    kind = get_type_hints(RewardConfig)[section]
    values = settings_of(CONF / "reward" / file)
    assert set(values) == field_names(kind)
    assert getattr(compose([f"reward/{section}={preset}"]).reward, section) == kind(**values)


def test_every_section_of_entropy_is_off_by_default():
    values = settings_of(CONF / "entropy" / "base.yaml")
    assert values.pop("allow_inert") is False
    assert set(values) == field_names(get_type_hints(RunConfig)["entropy"]) - {"allow_inert"}
    assert set(values.values()) == {None}


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "entropy"])
def test_an_option_of_entropy_fills_in_one_section(option):
    """Of its own file and the section that options share, no setting lacks a default, and each value differs."""
    file = CONF / "entropy" / f"{option}.yaml"
    own = settings_of(file)
    for choice in yaml.safe_load(file.read_text()).get("defaults", []):
        if isinstance(choice, dict):
            [group] = choice
            shared = settings_of(CONF / "entropy" / group.removesuffix("@_here_") / "base.yaml")
            [(section, values)] = shared.items()
            assert own.keys() <= {section}
            assert all((values or {}).get(key) != value for key, value in own.get(section, {}).items())
            own = {section: (values or {}) | own.get(section, {})}
    kinds = get_type_hints(get_type_hints(RunConfig)["entropy"])
    assert len(own) == (option != "none")
    for section, values in own.items():
        assert set(values) == field_names(without_none(kinds[section]))
        assert getattr(compose([f"entropy={option}"]).entropy, section) == without_none(kinds[section])(**values)


def test_several_controls_at_once():
    both = compose(["entropy=[clip_cov,bonus]"]).entropy
    assert both == replace(compose(["entropy=clip_cov"]).entropy, bonus=compose(["entropy=bonus"]).entropy.bonus)
    assert compose(["entropy=[kl_cov,clip_cov,bonus]", "entropy.bonus.coef=0.5"]).entropy.bonus.coef == 0.5
    assert compose(["entropy=[clip_cov,bonus]", "entropy.bonus=null"]).entropy == compose(["entropy=clip_cov"]).entropy
    assert compose(["entropy=[none]"]).entropy == compose(["entropy=[]"]).entropy == compose([]).entropy


@pytest.mark.parametrize("option", DATA)
def test_every_source_of_data_has_one_default_for_every_setting(option):
    file = CONF / "data" / f"{option}.yaml"
    values = settings_of(file)
    sources = {f"evaluation.{name}": source for name, source in values["evaluation"].items()}
    sources["train"] = values.get("train", {})
    kinds = {}
    for choice in yaml.safe_load(file.read_text())["defaults"]:
        if isinstance(choice, dict):
            [(group, kind)] = choice.items()
            kinds[group.removeprefix("source@")] = source_settings(kind)
    assert kinds.keys() == sources.keys()
    for name, source in sources.items():
        needed = {key for key, value in kinds[name].items() if value == "???"}
        assert needed - {"prompt_field", "gold_field"} <= source.keys(), "data.path would not reach the source"
        assert disjoint_union(source, kinds[name].keys() - (source.keys() & needed)) == field_names(SourceConfig)


def source_settings(kind: str) -> dict:
    file = CONF / "data" / "source" / f"{kind}.yaml"
    own = settings_of(file)
    shared = settings_of(file.with_name("base.yaml")) if yaml.safe_load(file.read_text()).get("defaults") else {}
    disjoint_union(own, shared)
    return own | shared


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONF)))
def test_every_setting_has_its_help_in_the_line_above(file):
    lines = file.read_text().splitlines()
    section = ""
    for above, line in zip(["", *lines], lines, strict=False):
        if match := re.match(r"( *)(\w+):", line):
            if not match[1]:
                section = match[2]
            if section not in ("defaults", "hydra"):
                assert re.match(rf"{match[1]}# \S.*\.$", above), f"{line.strip()} has no help above it"


def dataclasses_within(kind):
    kind = without_none(kind)
    if is_dataclass(kind):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from dataclasses_within(hint)
    elif get_origin(kind) is dict:
        yield from dataclasses_within(get_args(kind)[1])


def test_dataclasses_are_frozen_and_hold_no_defaults():
    kinds = set(dataclasses_within(RunConfig))
    assert len(kinds) == 42
    for kind in kinds:
        assert kind.__dataclass_params__.frozen
        assert all(field.default is MISSING and field.default_factory is MISSING for field in fields(kind)), kind


def combinations_that_hold_every_option() -> list[dict]:
    """One option of each group at a time, as many times as the largest group has options.

    Only a few of data's, which are many: tests/launch/test_data_presets.py composes each.
    """
    options = {group: [option for named, option in OPTIONS if named == group] for group in GROUPS}
    count = max(len(names) for group, names in options.items() if group != "data")
    return [{group: names[index % len(names)] for group, names in options.items()} for index in range(count)]


@pytest.mark.parametrize("choices", combinations_that_hold_every_option(), ids=lambda choices: choices["off_policy"])
def test_every_option_composes_to_its_values(choices):
    overrides = [f"{group}={option}" for group, option in choices.items()]
    config = compose(overrides + [needed for choice in overrides if choice in NEEDED for needed in NEEDED[choice]])
    for group, option in choices.items():
        values = settings_of(CONF / group / f"{option}.yaml")
        plain = {key: value for key, value in values.items() if value != "???" and not isinstance(value, dict | str)}
        assert {key: getattr(getattr(config, group), key) for key in plain} == plain


def test_the_default_is_the_laboratory_job():
    config = compose([])
    assert (config.seed, config.steps, config.name) == (0, 60, "laboratory")
    assert (config.rollout.prompts_per_step, config.rollout.samples_per_prompt) == (32, 8)
    assert (config.off_policy.minibatches, config.off_policy.epochs) == (4, 1)
    assert (config.clip.low, config.clip.high) == (0.2, 0.2)
    assert (config.learner.ranks, config.learner.zero_stage) == (2, 1)
    assert Path(config.model.path) == ROOT / "launch" / "assets" / "laboratory" / "96"


ALGORITHMS = [option for group, option in OPTIONS if group == "algorithm"]


@pytest.mark.parametrize("option", ALGORITHMS)
def test_thresholds_are_part_of_a_method_and_the_command_line_has_the_last_word(option):
    own = {"dapo": "higher", "gspo": "gspo", "cispo": "none", "sapo": "none"}.get(option, "ppo")
    config = compose([f"algorithm={option}"])
    assert (config.clip.low, config.clip.high) == tuple(settings_of(CONF / "clip" / f"{own}.yaml").values())
    for given in ([f"algorithm={option}", "clip=tighter"], ["clip=tighter", f"algorithm={option}"]):
        assert (compose(given).clip.low, compose(given).clip.high) == (0.12, 0.2)
    assert compose([f"algorithm={option}", "clip.high=0.7"]).clip.high == 0.7


@pytest.mark.parametrize("group", ["algorithm", "clip", "correction", "reference"])
def test_a_setting_has_one_help_text_in_all_options_of_its_group(group):
    texts: dict[str, set] = {}
    for file in (CONF / group).glob("*.yaml"):
        comment: list[str] = []
        for line in file.read_text().splitlines():
            if match := re.match(r"(\w+):", line):
                if match[1] != "defaults":
                    texts.setdefault(match[1], set()).add(" ".join(comment))
                comment = []
            elif line.startswith("#"):
                comment.append(line)
            else:
                comment = []
    # What an option says of itself stands above its defaults, or where it has none above its first setting.
    repeated = {key: {min(found, key=len) in text for text in found} for key, found in texts.items()}
    assert all(same == {True} for same in repeated.values()), repeated


def test_laboratory_data_agrees_with_the_corpus_the_model_was_supervised_on():
    data = compose([]).data
    heldout, outside = data.evaluation["heldout"], data.evaluation["out_of_domain"]
    assert data.train.task == heldout.task == "chain_sum"
    assert data.train.parameters == heldout.parameters == laboratory_corpus.CHAIN_SUM_PARAMETERS
    assert (outside.task, outside.parameters) == (laboratory_corpus.PROBE_TASK, laboratory_corpus.PROBE_PARAMETERS)
    assert {source.template for source in (data.train, heldout, outside)} == {laboratory_corpus.PROMPT_TEMPLATE}
    assert data.train.seed == laboratory_corpus.TRAIN_SEED
    assert heldout.seed == outside.seed == laboratory_corpus.HELD_OUT_SEED
    assert max(heldout.rows, outside.rows) <= laboratory_corpus.HELD_OUT_ROWS


def test_gsm8k_holds_out_the_first_rows_of_one_file():
    data = compose(["data=gsm8k", "data.path=/d/train.jsonl", "data.heldout=100"]).data
    [train] = training_sources(data).values()
    [heldout] = evaluation_sources(data).values()
    assert train.path == heldout.path == "/d/train.jsonl"
    assert (heldout.first_row, heldout.rows) == (0, 100)
    assert (train.first_row, train.rows) == (100, None)
    assert (heldout.verifier, heldout.gold_after) == ("math", "####")


def test_overrides_interpolations_and_types():
    config = compose(["steps=3", "model.width=64", "learner.threads=2", "rollout.temperature=1"])
    assert config.steps == 3
    assert config.model.path.endswith("laboratory/64")
    assert config.learner.threads == 2
    assert isinstance(config.rollout.temperature, float)


def test_config_is_frozen():
    with pytest.raises(FrozenInstanceError):
        compose([]).clip.low = 1.0


def test_output_folder_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compose(["output.folder=here"]).output.folder == str(tmp_path / "here")
    default = Path(compose(["name=mine"]).output.folder)
    assert default.parent == tmp_path / "runs"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_mine", default.name)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("clip.hihg=0.3", "clip.hihg is not a setting; did you mean clip.high?"),
        ("clpi.high=0.3", "clpi.high is not a setting; did you mean clip.high?"),
        ("clipp=open", "clipp is not a setting; did you mean clip?"),
        ("learning_rate=1", "learning_rate is not a setting; did you mean learner.learning_rate?"),
        (
            "data.evaluation.heldout.rowz=3",
            "data.evaluation.heldout.rowz is not a setting; did you mean data.evaluation.heldout.rows?",
        ),
        ("zzzzzz=1", "zzzzzz is not a setting."),
        ("+clip.lowest=1", "clip.lowest is not a setting; did you mean clip.low?"),
        ("++zzzzzz=1", "zzzzzz is not a setting."),
        (
            "+clip.lowest=1 ++data.train.rowz=3",
            "clip.lowest is not a setting; did you mean clip.low?\n"
            "data.train.rowz is not a setting; did you mean data.train.rows?",
        ),
        (
            "clip=higer",
            "clip=higer does not exist; did you mean clip=higher? "
            "Options: gspo, higher, lower, none, open, ppo, tighter.",
        ),
        (
            "clip.low=abc",
            "clip.low=abc is refused: clip.low: Value 'abc' of type 'str' could not be converted to Float.",
        ),
        ("seed=1.5", "seed=1.5 is refused: seed: Value '1.5' of type 'float' could not be converted to Integer."),
        ("seed=null", "seed=null is refused: seed: field 'seed' is not Optional."),
        ("+clip=open", "clip is chosen twice; write clip=... once and without a plus sign."),
        ("seed=0,1", "seed=0,1 is a list of values; add --multirun to run one after another."),
        ("clip.low=[1", "clip.low=[1 cannot be read as setting=value."),
        ("steps", "steps cannot be read as setting=value."),
        ("~clip", "clip has no default; give clip=..."),
        ("data=gsm8k", "data.path has no default; give data.path=..."),
        (
            "data=gsm8k model=local",
            "model.path has no default; give model.path=...\ndata.path has no default; give data.path=...",
        ),
        (
            "entropy.clip_cov.rate=0.1",
            "entropy.clip_cov is incomplete; choose entropy=clip_cov or random_clip, or leave it out with "
            "entropy.clip_cov=null.",
        ),
        (
            "experiment=cui_kl_cov_32b entropy=none data.path=/data/train.jsonl",
            "entropy.kl_cov is incomplete; choose entropy=kl_cov or random_kl, or leave it out with "
            "entropy.kl_cov=null.",
        ),
        (
            "entropy.bonus={coef:1}",
            "entropy.bonus is incomplete; choose entropy=bonus, or leave it out with entropy.bonus=null.",
        ),
        (
            "entropy=clip_cov entropy.clip_cov.rte=0.1",
            "entropy.clip_cov.rte is not a setting; did you mean entropy.clip_cov.rate?",
        ),
        (
            "entropy=[clip_cov,random_clip]",
            "entropy.clip_cov is chosen twice; of clip_cov or random_clip take one.",
        ),
        (
            "entropy=[clip_cov,bnus]",
            "entropy=bnus does not exist; did you mean entropy=bonus? Options: "
            f"{', '.join(option for group, option in OPTIONS if group == 'entropy')}.",
        ),
        ("experimnt=lab_grpo", "experimnt is not a setting; did you mean experiment?"),
        (
            "experiment=lab_gpro",
            f"experiment=lab_gpro does not exist; did you mean experiment=lab_grpo? Options: {', '.join(EXPERIMENTS)}.",
        ),
        ("name=${nmae}", "name: Interpolation key 'nmae' not found."),
    ],
)
def test_a_wrong_override_is_one_sentence(overrides, sentence):
    with pytest.raises(ConfigError) as caught:
        compose(overrides.split())
    assert str(caught.value) == sentence


@pytest.mark.parametrize("key", FORMER)
def test_a_setting_that_is_gone_says_what_to_do(key):
    for plus in ("", "+"):
        with pytest.raises(ConfigError) as caught:
            compose([f"{plus}{key}=1"])
        assert str(caught.value) == f"{key} is no longer a setting: {FORMER[key]}."


def test_what_replaces_a_setting_that_is_gone_exists():
    config = compose([])
    for sentence in FORMER.values():
        for name in re.findall(r"\w+(?:\.\w+)+", sentence):
            assert operator.attrgetter(name)(config) is not None


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def experiment_of(file: Path) -> tuple[dict, dict]:
    """The groups that an experiment chooses and the settings it gives, those of its scale included."""
    text = file.read_text()
    assert text.startswith("# @package _global_\n")
    groups, settings = {}, {}
    for choice in yaml.safe_load(text)["defaults"]:
        if isinstance(choice, str):
            groups, settings = experiment_of(file.parent / f"{choice}.yaml")
        else:
            [(group, option)] = choice.items()
            groups = {**groups, group.removeprefix("override /"): option}
    return groups, settings | flat(settings_of(file))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_chooses_whole_groups(name):
    """No experiment takes thresholds, updates, controls, model or data from what happens to be the default."""
    groups, settings = experiment_of(CONF / "experiment" / f"{name}.yaml")
    assert groups.keys() >= {"algorithm", "clip", "off_policy", "entropy", "model", "data"}
    path = NEEDED.get(f"data={groups['data']}", [])
    config = compose([f"experiment={name}", *path])
    given = [*(f"{key}={value}" for key, value in groups.items()), *(f"{key}={v}" for key, v in settings.items())]
    assert config.name == name
    assert replace(config, output=None) == replace(compose([*given, *path]), output=None)


def test_the_laboratory_experiments_differ_in_what_their_names_say():
    arms = {name: compose([f"experiment={name}"]) for name in EXPERIMENTS if name.startswith("lab_")}
    plain = {name: c for name, c in arms.items() if c.entropy == compose([]).entropy}
    assert {name: (c.clip.low, c.clip.high, c.off_policy.updates_per_rollout) for name, c in plain.items()} == {
        "lab_grpo": (0.2, 0.2, 8),
        "lab_grpo_open": (1.0, 1.0, 8),
        "lab_clip_higher": (0.2, 0.28, 8),
        "lab_unclipped": (None, None, 8),
        "lab_on_policy": (0.2, 0.2, 1),
    }
    for name in arms.keys() - plain.keys():
        unclipped = name in ("lab_kl_cov", "lab_random_kl")
        comparable = arms["lab_unclipped" if unclipped else "lab_grpo_open"]
        same = replace(comparable, name=name, entropy=arms[name].entropy, output=arms[name].output)
        assert arms[name] == same


def test_the_command_line_has_the_last_word_over_an_experiment():
    config = compose(["clip=open", "experiment=lab_clip_higher", "off_policy.minibatches=2", "name=mine"])
    assert (config.clip.high, config.off_policy.minibatches, config.name) == (1.0, 2, "mine")


def test_task_parameters_may_be_added():
    assert compose(["+data.train.parameters.allow_negation=true"]).data.train.parameters["allow_negation"] is True


def test_a_wrong_key_in_a_file_is_named_with_the_file(tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "mine.yaml").write_text("low: 0.2\nhihg: 0.2\n")
    with pytest.raises(
        ConfigError, match=re.escape("conf/clip/mine.yaml: clip.hihg is not a setting; did you mean clip.high?")
    ):
        compose([f"hydra.searchpath=[file://{tmp_path}]", "clip=mine"])


APPLICATION = """
from launch.config import ConfigError
from launch.entry import hydra_entry

def main(config):
    print("folder", config.output.folder, "seed", config.seed)
    if config.seed == 7:
        raise ConfigError("seed 7 will not do")
    if config.seed == 8:
        raise RuntimeError("seed 8 broke")

hydra_entry(main)
"""


def application(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, "-c", APPLICATION, *arguments],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def help_of(group: str, text: str) -> str:
    """What --help says of a group, its continued lines joined."""
    lines = text.splitlines()
    [start] = [number for number, line in enumerate(lines) if line.split()[:1] == [group]]
    indent = lines[start].index(lines[start].split()[1])
    more = []
    for line in lines[start + 1 :]:
        if not line.strip() or line[:indent].strip():
            break
        more.append(line)
    return " ".join([lines[start][indent:], *more])


def test_help_names_every_option_with_the_default_first(tmp_path):
    text = application(tmp_path, "--help").stdout
    assert text.count("python -m launch.train") >= 3
    for group, default in GROUPS.items():
        options = help_of(group, text)
        assert options.split()[0].rstrip(",:") == default
        for option in (option for named, option in OPTIONS if named == group):
            assert re.search(rf"(?<![\w.-]){re.escape(option)}(?![\w-])", options), f"{group}={option}"
    assert all(f" {name}" in help_of("experiment", text) for name in EXPERIMENTS)
    assert not list(tmp_path.iterdir())


def test_a_single_run_gets_its_folder_and_a_quiet_console(tmp_path):
    done = application(tmp_path, "output.folder=here", "seed=3")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"folder {tmp_path / 'here'} seed 3\n", "")
    assert list((tmp_path / "here").iterdir()) == []


def test_a_refused_run_prints_only_the_sentence_and_exits_with_2(tmp_path):
    misspelt = application(tmp_path, "clip.hihg=1")
    assert (misspelt.returncode, misspelt.stdout) == (2, "")
    assert misspelt.stderr == "clip.hihg is not a setting; did you mean clip.high?\n"
    refused = application(tmp_path, "seed=7")
    assert (refused.returncode, refused.stderr) == (2, "seed 7 will not do\n")
    full = application(tmp_path, "seed=7", HYDRA_FULL_ERROR="1")
    assert full.returncode != 0
    assert "Traceback" in full.stderr


def test_a_sweep_outlives_its_bad_points_and_reports_each(tmp_path):
    done = application(tmp_path, "--multirun", "seed=7,8,9", "clip=open")
    assert done.returncode != 0
    assert "Failed: seed=7 clip=open\nseed 7 will not do\n" in done.stderr
    assert "RuntimeError: seed 8 broke" in done.stderr
    assert done.stderr.count("seed 7 will not do") == 1
    [sweep] = (tmp_path / "multirun").iterdir()
    assert f"folder {sweep / 'clip-open_seed-9'} seed 9" in done.stdout


def test_one_folder_for_a_whole_sweep_is_refused(tmp_path):
    done = application(tmp_path, "--multirun", "seed=1,2", "output.folder=here")
    assert done.stderr == "output.folder is the folder of one run; for a sweep give hydra.sweep.dir=...\n"
    assert done.returncode == 2


def test_the_points_of_a_sweep_over_experiments_share_one_folder():
    """Hydra resolves it anew for every point, so it may hold no setting of a point."""
    folder = yaml.safe_load((CONF / "train.yaml").read_text())["hydra"]["sweep"]["dir"]
    assert set(re.findall(r"\$\{(\w+):?", folder)) == {"output_root", "now"}
