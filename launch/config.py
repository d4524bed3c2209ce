"""The whole configuration of a run: the rooms' dataclasses composed, and how conf/ and overrides become one RunConfig.

Defaults and help lines live in conf/; the dataclasses hold types only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, Optional, get_args, get_origin, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entropy.config import EntropyConfig
from launch.misspelt import explain, in_no_section, not_a_setting, without_value
from launch.optional import given_in_part, without_none
from launch.ray_job import output_root
from learner.config import (
    AlgorithmConfig,
    ClipConfig,
    CorrectionConfig,
    LearnerConfig,
    OffPolicyConfig,
    ProbeConfig,
    ReferenceConfig,
)
from reward.config import RewardConfig
from rollout.config import DataConfig, RolloutConfig

CONF = Path(__file__).resolve().parent.parent / "conf"
ASSETS = Path(__file__).resolve().parent / "assets"
ENTRY = "train"
HYDRA_VERSION = "1.3"


class ConfigError(ValueError):
    """Settings a run cannot have. The message names every setting to change, one sentence a line."""


@dataclass(frozen=True)
class ModelConfig:
    name: str
    width: int | None
    path: str
    dtype: str  # float32 | bfloat16
    context_tokens: int
    trust_remote_code: bool


@dataclass(frozen=True)
class ClusterConfig:
    kind: str  # auto | local | ray
    address: str | None
    device: str  # auto | cpu | cuda
    start_timeout_s: float
    cpus_per_engine: int
    cpus_per_rank: int


@dataclass(frozen=True)
class EvaluationSetConfig:
    """What an evaluation set has of its own; None: what `evaluation` has."""

    samples_per_prompt: int | None
    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None


@dataclass(frozen=True)
class EvaluationConfig:
    every: int
    sets: dict[str, EvaluationSetConfig]
    samples_per_prompt: int
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    stop: list[str]
    stop_token_ids: list[int]


@dataclass(frozen=True)
class AlarmsConfig:
    """Thresholds by the kind of alarm; None: no alarm. The rules are in `launch.alarms`."""

    entropy_collapse: float | None
    entropy_surge: float | None
    length_explosion: float | None
    truncation: float | None
    heldout_fall: float | None
    mismatch: float | None
    no_signal: float | None
    verifier_failures: float | None
    gradient_spike: float | None


@dataclass(frozen=True)
class OutputConfig:
    folder: str
    save_rollouts: bool
    save_batches: str  # recent | all | none
    save_model: bool
    display: str  # auto | live | lines


@dataclass(frozen=True)
class CheckpointConfig:
    every: int
    form: str  # portable | deepspeed
    keep_last: int
    keep_best: int
    metric: str | None
    best: str  # max | min
    keep_every: int
    huggingface: bool
    write_deadline_s: float
    grace_s: float
    must_save_by_s: float | None
    restarts: int


@dataclass(frozen=True)
class LoggerConfig:
    kinds: list[str]
    project: str
    wandb_mode: str  # offline | online
    mlflow_uri: str | None
    timeout_s: float


@dataclass(frozen=True)
class RunConfig:
    name: str
    seed: int
    steps: int
    resume: str  # auto | never | the folder of a run
    resume_force: bool
    resume_unpickle: bool
    algorithm: AlgorithmConfig
    clip: ClipConfig
    off_policy: OffPolicyConfig
    correction: CorrectionConfig
    reference: ReferenceConfig
    entropy: EntropyConfig
    model: ModelConfig
    data: DataConfig
    reward: RewardConfig
    rollout: RolloutConfig
    learner: LearnerConfig
    cluster: ClusterConfig
    logger: LoggerConfig
    evaluation: EvaluationConfig
    probe: ProbeConfig
    alarms: AlarmsConfig
    checkpoint: CheckpointConfig
    output: OutputConfig


def register() -> None:
    """Tell Hydra the schema of every setting and the resolvers that conf/ uses. May be called again."""
    ConfigStore.instance().store(name="run_schema", node=_mutable(RunConfig))
    OmegaConf.register_new_resolver("assets", lambda path: str(ASSETS / path), replace=True)
    OmegaConf.register_new_resolver("output_root", lambda: output_root(Path.cwd(), Path.home()), replace=True)


def compose(overrides: Sequence[str]) -> RunConfig:
    """The RunConfig that `python -m launch.train <overrides>` would run; for tests and other entry points.

    Raises ConfigError.
    """
    from launch.resume import with_stored  # which imports this module

    register()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base=HYDRA_VERSION, job_name="entrain"):
            return build(with_stored(hydra.compose(ENTRY, overrides=list(overrides)), overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, RunConfig, CONF)) from error
    except (AssertionError, AttributeError) as error:
        if sentence := in_no_section(error, overrides, RunConfig, CONF):
            raise ConfigError(sentence) from error
        raise


def build(cfg: DictConfig) -> RunConfig:
    """Resolve a composed configuration and freeze it.

    Raises ConfigError with every key that has no value, or else with every key that is not a setting.
    """
    given: Any = OmegaConf.to_container(cfg)
    missing = list(_missing_keys(given, ""))
    if missing:
        raise ConfigError("\n".join(dict.fromkeys(without_value(key, RunConfig, CONF) for key in missing)))
    try:
        values: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, RunConfig, CONF)) from error
    _complete(values["evaluation"]["sets"])
    unknown = list(_unknown_keys(RunConfig, values, ""))
    if unknown:
        raise ConfigError("\n".join(not_a_setting(key, RunConfig) for key in unknown))
    values["output"]["folder"] = str(Path(values["output"]["folder"]).absolute())
    return _freeze(RunConfig, values)


def _mutable(kind: Any) -> Any:
    """The same type, its dataclasses unfrozen: OmegaConf makes frozen ones read-only, so YAML could not fill them."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return make_dataclass(kind.__name__, [(field.name, _mutable(hints[field.name])) for field in fields(kind)])
    if is_dataclass(section := without_none(kind)) and section is not kind:
        return Optional[_mutable(section)]  # noqa: UP045  the other form takes no type made at run time
    if get_origin(kind) is dict:
        key, value = get_args(kind)
        # Hydra builds what is added setting by setting as plain dicts.
        return dict[key, dict[str, Any] if given_in_part(value) else _mutable(value)]  # type: ignore[misc, valid-type]
    return kind


def _complete(sets: dict[str, dict[str, Any]]) -> None:
    """Give each evaluation set null for what it does not name, and hold the rest against its type.

    Raises ConfigError where a value has another one.
    """
    for name, own in sets.items():
        typed: Any = OmegaConf.structured(_mutable(EvaluationSetConfig))
        for field in fields(EvaluationSetConfig):
            try:
                typed[field.name] = own.get(field.name)
            except OmegaConfBaseException as error:
                said = str(error).splitlines()[0].rstrip(".")
                raise ConfigError(f"evaluation.sets.{name}.{field.name}: {said}.") from error
            own[field.name] = typed[field.name]


def _missing_keys(value: Any, prefix: str) -> Iterator[str]:
    """Dotted keys without a value. (OmegaConf.missing_keys stops at the first interpolation of one.)"""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _missing_keys(inner, f"{prefix}{key}.")
        elif inner == MISSING:
            yield f"{prefix}{key}"


def _unknown_keys(kind: Any, value: Any, prefix: str) -> Iterator[str]:
    """Dotted keys that no dataclass knows: Hydra's schema lets `+section.key=value` through."""
    kind = without_none(kind)
    if value is None:
        return
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        for key, inner in value.items():
            if key in hints:
                yield from _unknown_keys(hints[key], inner, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"
    elif get_origin(kind) is dict:
        for key, inner in value.items():
            yield from _unknown_keys(get_args(kind)[1], inner, f"{prefix}{key}.")


def _freeze(kind: Any, value: Any) -> Any:
    kind = without_none(kind)
    if value is None:
        return None
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: _freeze(hints[field.name], value[field.name]) for field in fields(kind)})
    if get_origin(kind) is dict:
        return {key: _freeze(get_args(kind)[1], inner) for key, inner in value.items()}
    return value
