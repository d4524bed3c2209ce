"""Going on with a run: from which checkpoint, with which settings, and whether it is still the same run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from launch.checkpoint_folder import CHECKPOINTS, Checkpoint, newest
from launch.config import CONF, ConfigError, RunConfig
from launch.run_folder import (
    CONFIG,
    METRICS,
    SUMMARY,
    TAKING_UP,
    read_metrics,
    read_summary,
    versions,
    without_code_folder,
)
from rollout.mixing import MixedSource
from rollout.prompts import PromptSource
from rollout.sources import DataError

AUTO, NEVER = "auto", "never"
# How to run, not what to run.
NOT_COMPARED = (*TAKING_UP, "output.folder")
# What may differ from the run that is gone on with: it decides where and how fast things are computed, how they are
# kept and shown, and where it rounds. All else changes what the run means.
MAY_DIFFER = (
    "name",
    "model.name",
    "model.trust_remote_code",
    "reference.actors",
    "reference.offload",
    "reference.trust_remote_code",
    "reward.workers",
    "reward.children_per_worker",
    "reward.memory_mb",
    "reward.deadline_s",
    "rollout.adapter",
    "rollout.engines",
    "rollout.tensor_parallel_size",
    "rollout.max_sequences",
    "rollout.kv_cache_blocks",
    "rollout.gpu_memory_utilization",
    "rollout.weight_transfer",
    "rollout.bucket_bytes",
    "rollout.canary_prompts",
    "rollout.canary_bound",
    "rollout.start_timeout_s",
    "rollout.deadline_s",
    "rollout.stall_s",
    "rollout.stragglers.",
    "rollout.restarts",
    "rollout.sync_timeout_s",
    "learner.ranks",
    "learner.zero_stage",
    "learner.offload_optimizer",
    "learner.offload_parameters",
    "learner.packing",
    "learner.row_tokens",
    "learner.tokens_per_microbatch",
    "learner.logprob_chunk_tokens",
    "learner.attention",
    "learner.gradient_checkpointing",
    "learner.max_skipped_updates",
    "learner.start_timeout_s",
    "learner.deadline_s",
    "learner.threads",
    "cluster.",
    "logger.",
    "evaluation.",
    "checkpoint.",
    "output.",
)
# What DeepSpeed's own checkpoints depend on.
LAYOUT = ("learner.ranks", "learner.zero_stage", "learner.offload_optimizer", "learner.offload_parameters")


@dataclass(frozen=True)
class Resumption:
    """What a run goes on from.

    lines  what there is to say about it at the start
    """

    checkpoint: Checkpoint
    lines: list[str]


def with_stored(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The settings of a command line: under `resume=<folder>` those of the run there, with what the line itself names.

    A group that it names replaces the whole section. Raises ConfigError where the folder holds no run.
    """
    if cfg.resume in (AUTO, NEVER):
        return cfg
    folder = Path(cfg.resume).absolute()
    try:
        stored: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"resume={cfg.resume}: {folder / CONFIG} cannot be read ({error.strerror}).") from error
    named = dict.fromkeys(_named(overrides))
    if "experiment" in named:
        raise ConfigError("experiment= chooses what a run is from its beginning; with resume=<folder>, leave it out.")
    plain: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    for section, value in stored.items():
        # A setting that the run did not know yet has its default.
        plain[section] = {**plain.get(section, {}), **value} if isinstance(value, dict) else value
    taken_up = OmegaConf.create(plain)
    for key in (*named, *TAKING_UP):
        OmegaConf.update(taken_up, key, OmegaConf.select(cfg, key), merge=False)
    OmegaConf.update(taken_up, "output.folder", str(folder))
    return taken_up


def resumption(config: RunConfig) -> Resumption | None:
    """What the run of `output.folder` goes on from; None where there is no run yet.

    Raises ConfigError where there is one that cannot be gone on with, or should not be.
    """
    folder = Path(config.output.folder)
    if not (folder / METRICS).is_file() or not read_metrics(folder):
        if config.resume in (AUTO, NEVER):
            return None
        raise ConfigError(f"resume={config.resume}: the run there made no step, so there is nothing to go on from.")
    if config.resume == NEVER:
        raise ConfigError(f"output.folder={folder} already holds a run; give another folder, or resume=auto.")
    checkpoint, damaged = newest(folder / CHECKPOINTS)
    if checkpoint is None:
        why = " ".join(["it has no whole checkpoint to go on from.", *damaged])
        raise ConfigError(f"output.folder={folder} already holds a run; {why} Give another folder.")
    finished = (folder / SUMMARY).is_file() and read_summary(folder)["status"] == "finished"
    if checkpoint.step > config.steps or (checkpoint.step == config.steps and finished):
        raise ConfigError(
            f"output.folder={folder} holds a run that has made its {checkpoint.step} steps, and steps = "
            f"{config.steps}: raise steps to go on with it, or give another folder."
        )
    changes = differences(checkpoint.state["config"], asdict(config))
    if checkpoint.native:
        _check_native(checkpoint, config, changes)
    harmful = [key for key in changes if not may_differ(key, config)]
    if harmful and not config.resume_force:
        raise ConfigError(
            "\n".join(
                [
                    *(
                        f"{key} was {changes[key][0]} in the run of {folder} and is {changes[key][1]}."
                        for key in harmful
                    ),
                    "That would make another run of it: give the settings as they were, another output.folder for "
                    "a new run, or resume_force=true.",
                ]
            )
        )
    return Resumption(
        checkpoint,
        [
            f"Goes on after step {checkpoint.step}, from {checkpoint.path}",
            *(f"{sentence} The checkpoint before it is used." for sentence in damaged),
            *(f"{key} is {now}, and was {was}" for key, (was, now) in changes.items()),
            *(f"{name} is {now}, and was {was}" for name, was, now in _versions(checkpoint.state["versions"])),
            *_metrics_lost(folder, checkpoint),
            *_new_at_trackers(config),
        ],
    )


def _check_native(checkpoint: Checkpoint, config: RunConfig, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises ConfigError where DeepSpeed's own checkpoint cannot be read, or should not be."""
    if not config.resume_unpickle:
        raise ConfigError(
            f"{checkpoint.native} holds pickles, which can run any code when they are read: give resume_unpickle=true "
            "if you know who wrote it."
        )
    if other := [key for key in LAYOUT if key in changes]:
        raise ConfigError(
            "\n".join(
                [
                    *(f"{key} was {changes[key][0]} in the run and is {changes[key][1]}." for key in other),
                    f"DeepSpeed's own checkpoint of step {checkpoint.step} is read in the layout that wrote it only "
                    "(checkpoint.form).",
                ]
            )
        )


def take_up_prompts(source: PromptSource | MixedSource, checkpoint: Checkpoint, force: bool) -> list[str]:
    """Let `source` go on where the checkpoint has it; what there is to say about it. Raises ConfigError."""
    try:
        source.load_state_dict(checkpoint.state["prompts"])
    except DataError as error:
        if not force:
            raise ConfigError(f"{error} Give back the data, or resume_force=true.") from error
        return [f"{error} They are handed out from the beginning."]
    return []


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted settings that differ, with both values; a place within the code is the same in every copy of it."""
    was, now = (dict(_leaves(without_code_folder(config), "")) for config in (stored, given))
    keys = [key for key in dict.fromkeys([*was, *now]) if key not in NOT_COMPARED]
    return {key: (was.get(key), now.get(key)) for key in keys if was.get(key) != now.get(key)}


def may_differ(key: str, config: RunConfig) -> bool:
    """Whether the run stays the same run when the setting `key` changes."""
    if key == "steps":
        # Other schedules and rules are laid out over the whole run.
        laid_out = (config.entropy.positive_advantage, config.entropy.temperature)
        return config.learner.schedule == "constant" and all(section is None for section in laid_out)
    return any(key == each or (each.endswith(".") and key.startswith(each)) for each in MAY_DIFFER)


def _named(overrides: Sequence[str]) -> list[str]:
    """Settings and sections that a command line names."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    keys = [override.key_or_group for override in parsed]
    return [key.split("/")[0] if (CONF / key.split("/")[0]).is_dir() and "." not in key else key for key in keys]


def _leaves(value: Any, prefix: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(prefix.removesuffix("."), list(value) if isinstance(value, tuple) else value)]
    return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{prefix}{key}.")]


def _versions(stored: Mapping[str, str | None]) -> list[tuple[str, str | None, str | None]]:
    now = versions()
    return [(name, stored.get(name), now[name]) for name in now if stored.get(name) != now[name]]


def _metrics_lost(folder: Path, checkpoint: Checkpoint) -> list[str]:
    rows = sum(1 for row in read_metrics(folder) if row["step"] <= checkpoint.step)
    lost = checkpoint.state["metrics"]["rows"] - rows
    return [f"{METRICS} has lost {lost} of its rows up to step {checkpoint.step}"] if lost else []


def _new_at_trackers(config: RunConfig) -> list[str]:
    remote = [kind for kind in config.logger.kinds if kind != "tensorboard"]
    return [f"{' and '.join(remote)}: a run of its own begins there with step numbers that go on"] if remote else []
