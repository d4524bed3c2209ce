"""The settings of the reward pool without a run: the defaults of conf/reward, and overrides as a run has them."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reward.config import RewardConfig

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("+reward=default", "+rollout=cpu")  # with what conf/reward refers to as ${rollout...}
HYDRA_VERSION = "1.3"


class SettingsError(ValueError):
    """Settings that do not exist, or whose value is of another kind."""


def reward_settings(overrides: Sequence[str]) -> RewardConfig:
    """`overrides` as on the command line of a run, "reward.timeout_s=10". Raises `SettingsError`."""
    try:
        with hydra.initialize_config_dir(str(CONF), version_base=HYDRA_VERSION, job_name="grade"):
            given = hydra.compose(overrides=[*GROUPS, *overrides])
        schema = OmegaConf.create({"reward": OmegaConf.structured(_mutable(RewardConfig))})
        values: Any = OmegaConf.to_container(OmegaConf.merge(schema, given).reward, resolve=True)
        return _frozen(RewardConfig, values)
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the innermost names the key
            cause = cause.__cause__
        raise SettingsError(" ".join(str(cause).split())) from error


def _mutable(kind: Any) -> Any:
    """The same type, its dataclasses unfrozen: OmegaConf makes frozen ones read-only, so YAML could not fill them."""
    if not is_dataclass(kind):
        return kind
    hints = get_type_hints(kind)
    return make_dataclass("Mutable", [(field.name, _mutable(hints[field.name])) for field in fields(kind)])


def _frozen(kind: Any, value: Any) -> Any:
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return value
    hints = get_type_hints(kind)
    return kind(**{field.name: _frozen(hints[field.name], value[field.name]) for field in fields(kind)})
