"""docs/defaults.yaml is what `python -m launch.train` runs with."""

from dataclasses import asdict

import yaml

from launch.config import ASSETS
from launch.defaults import PATH, flat_defaults
from tests.composed import compose

FLAT = yaml.safe_load(PATH.read_text())


def test_the_committed_file_is_true():
    assert PATH.read_text() == flat_defaults(), "run python -m launch.defaults"


def test_every_setting_stands_on_one_line_under_its_name_on_the_command_line():
    config = asdict(compose([]))
    assert len(PATH.read_text().splitlines()) == len(FLAT) + 1
    for key, value in FLAT.items():
        inner = config
        for name in key.split("."):
            inner = inner[name]
        if key not in ("model.path", "output.folder"):
            assert inner == value, key


def test_nothing_of_this_machine_or_hour_is_in_it():
    assert str(ASSETS.parents[1]) not in PATH.read_text()
    assert FLAT["model.path"] == "${assets:laboratory/${model.width}}"
    assert FLAT["output.folder"].startswith("${output_root:}runs/${now:")
