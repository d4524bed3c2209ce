"""Every command of docs/configuration.md passes the command line as written; only the run itself is a stand-in."""

import re
import shlex
import sys

import pytest

from launch.config import CONF, RunConfig
from launch.entry import hydra_entry
from launch.run_folder import RunFolder, summarize
from launch.validate import raise_if_any
from tests.composed import compose

PAGE = (CONF.parent / "docs" / "configuration.md").read_text()
COMMANDS = re.findall(r"^(?:\$ )?(python -m launch\.train.*)$", PAGE, re.MULTILINE)
CONSOLE = re.search(r"```console\n(.*?)```", PAGE, re.DOTALL)[1]
REFUSALS = dict(re.findall(r"^\$ (.*)\n((?:[^$].*\n)+)", CONSOLE, re.MULTILINE))


def stand_in(config: RunConfig) -> None:
    """Everything of a run that concerns its settings."""
    raise_if_any(config)
    folder = RunFolder(config.output.folder)
    digest = folder.write_config(config)
    folder.write_summary(summarize([], config_hash=digest, versions={}, started=None, seconds=0.0))


def type_in(command: str, monkeypatch) -> int:
    """Exit status of the command."""
    monkeypatch.setattr(sys, "argv", shlex.split(command.removeprefix("python -m ")))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    try:
        hydra_entry(stand_in)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status = type_in(command, monkeypatch)
    assert (status, capsys.readouterr().err) == ((2, REFUSALS[command]) if command in REFUSALS else (0, ""))


def test_there_are_commands_to_test():
    assert len(COMMANDS) > 10
    assert len(REFUSALS) == 4


def test_the_table_of_groups_names_every_option():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    assert rows.keys() >= groups
    for group in groups:
        if "see `--help`" not in rows[group]:
            options = {file.stem for file in (CONF / group).glob("*.yaml")} - {"base"}
            assert set(re.findall(r"`([^`]+)`", rows[group])) == options, group


def test_the_table_of_experiments_is_true():
    rows = re.findall(r"^\| `(lab_\w+)` \| (\S+) \| (\d+) \| `(\w+)` \|$", PAGE, re.MULTILINE)
    assert {name for name, *_ in rows} == {file.stem for file in (CONF / "experiment").glob("lab_*.yaml")}
    for name, thresholds, updates, entropy in rows:
        config = compose([f"experiment={name}"])
        clip = config.clip
        assert thresholds == ("none" if clip.low is None else f"{clip.low:g}/{clip.high:g}")
        assert config.off_policy.updates_per_rollout == int(updates)
        assert f"  - override /entropy: {entropy}\n" in (CONF / "experiment" / f"{name}.yaml").read_text()
