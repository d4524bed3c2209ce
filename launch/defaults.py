"""`python -m launch.defaults`: write docs/defaults.yaml, every setting of `python -m launch.train` with its default.

One line per setting, under the name the command line takes. What depends on the machine or the hour stays as it stands
in conf/.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from launch.config import CONF, ENTRY, HYDRA_VERSION, register

PATH = CONF.parent / "docs" / "defaults.yaml"
HEADER = "# Every setting and its default. Written by `python -m launch.defaults`; the help lines are in conf/.\n"
DIFFERS = re.compile(r"\$\{(assets|now|oc\.env):")


def flat_defaults() -> str:
    """The content of docs/defaults.yaml."""
    register()
    # A run is within Hydra already, which has one state for the process.
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), version_base=HYDRA_VERSION, job_name="entrain"):
            config = hydra.compose(ENTRY)
    finally:
        GlobalHydra.instance().hydra = outer
    raw = dict(_flat(OmegaConf.to_container(config)))
    resolved = dict(_flat(OmegaConf.to_container(config, resolve=True)))
    values = {
        key: raw[key] if isinstance(raw.get(key), str) and DIFFERS.search(raw[key]) else value
        for key, value in resolved.items()
    }
    return HEADER + "".join(_line(key, value) for key, value in values.items())


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _line(key: str, value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return f"{key}: {json.dumps(value)}\n"  # YAML's own form would take several lines
    if isinstance(value, list):
        return f"{key}: {yaml.safe_dump(value, allow_unicode=True, width=1000, default_flow_style=True)}"
    return yaml.safe_dump({key: value}, allow_unicode=True, width=1000)


def main() -> None:
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(flat_defaults(), encoding="utf-8")
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
