"""The settings of the reward pool without a run: the defaults of conf/reward, and overrides as a run has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reward.config import RewardConfig

CONF = Path(__file__).resolve().parent.parent / "conf"
DEFAULT = "reward/default"
HYDRA_VERSION = "1.3"


class SettingsError(ValueError):
    """Settings that do not exist, or whose value is of another kind."""


def reward_settings(overrides: Sequence[str]) -> RewardConfig:
    """`overrides` as on the command line of a run, "reward.timeout_s=10". Raises `SettingsError`."""
    try:
        with hydra.initialize_config_dir(str(CONF), version_base=HYDRA_VERSION, job_name="grade"):
            given = hydra.compose(DEFAULT, overrides=list(overrides))
        schema = OmegaConf.structured(RewardConfig)
        _thaw(schema)
        return cast(RewardConfig, OmegaConf.to_object(OmegaConf.merge(schema, given.reward)))
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the innermost names the key
            cause = cause.__cause__
        raise SettingsError(" ".join(str(cause).split())) from error


def _thaw(node: Any) -> None:
    """OmegaConf makes what a frozen dataclass describes read-only, so that no value could be filled in."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        inner = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(inner, DictConfig):
            _thaw(inner)
