"""Which run goes on, with which settings, and what is refused."""

import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from launch.checkpoint_folder import CHECKPOINTS, partial_folder, write
from launch.config import ConfigError, RunConfig, compose
from launch.entry import hydra_entry
from launch.resume import differences, may_differ, resumption
from launch.run_folder import RunFolder, versions

composed = cache(lambda *overrides: compose(["output.folder=unused", *overrides]))


def config(folder: Path, *overrides: str) -> RunConfig:
    plain = composed(*overrides)
    return replace(plain, output=replace(plain.output, folder=str(folder)))


def left_by_a_run(folder: Path, *overrides: str, steps: int = 4, saved: tuple[int, ...] = (2,)) -> RunConfig:
    """What a run that made some steps and saved some of them leaves."""
    stored = config(folder, *overrides)
    run = RunFolder(folder)
    run.write_config(stored)
    for step in range(steps + 1):
        run.append_metrics({"step": step})
    for step in saved:
        state = {
            "config": asdict(stored),
            "versions": versions(),
            "metrics": {"rows": step + 1},
            "optimizer": {"steps": 4, "moments": []},
        }
        buckets = [{"weights": {"a": np.zeros(1, np.float32)}}]
        write(partial_folder(folder / CHECKPOINTS, step), step, state, {}, {}, buckets, lambda: False)
    return stored


def built(monkeypatch, cwd: Path, *arguments: str) -> RunConfig:
    """The configuration of a command line."""
    found: list[RunConfig] = []
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    hydra_entry(found.append)
    return found[0]


def test_resume_takes_the_settings_of_the_run_and_those_given_beside_it(tmp_path, monkeypatch):
    run = tmp_path / "run"
    extra = ("data.mix={}", "learner.learning_rate=1e-4", "learner=zero3", "entropy=kl_cov", "off_policy=updates8")
    stored = left_by_a_run(run, *extra, "seed=7")
    assert built(monkeypatch, tmp_path, "resume=run") == replace(stored, resume="run")
    changed = built(monkeypatch, tmp_path, f"resume={run}", "learner.ranks=1", "steps=90", "logger=tensorboard")
    assert (changed.learner.ranks, changed.steps, changed.logger.kinds) == (1, 90, ["tensorboard"])
    assert changed.learner == replace(stored.learner, ranks=1)
    assert (changed.seed, changed.entropy, changed.output) == (7, stored.entropy, stored.output)
    # A group brings all of its settings.
    group = built(monkeypatch, tmp_path, "resume=run", "learner=zero2").learner
    assert (group.zero_stage, group.learning_rate) == (2, compose(["output.folder=x"]).learner.learning_rate)
    # Hydra makes a folder for every new run, and this is none.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_setting_that_the_run_did_not_know_has_its_default(tmp_path, monkeypatch):
    run = tmp_path / "run"
    left_by_a_run(run)
    stored = yaml.safe_load((run / "config.yaml").read_text())
    del stored["checkpoint"]["grace_s"], stored["checkpoint"]["keep_last"]
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    assert built(monkeypatch, tmp_path, "resume=run").checkpoint == config(run).checkpoint


def refused(monkeypatch, capsys, cwd: Path, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        built(monkeypatch, cwd, *arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_resume_is_refused_where_there_is_no_run_and_with_an_experiment_or_a_sweep(tmp_path, monkeypatch, capsys):
    left_by_a_run(tmp_path / "run")
    assert f"{tmp_path}/none/config.yaml cannot be read (No such file" in refused(
        monkeypatch, capsys, tmp_path, "resume=none"
    )
    assert "experiment= chooses what a run is" in refused(
        monkeypatch, capsys, tmp_path, "resume=run", "experiment=lab_grpo"
    )
    assert "is for one run" in refused(monkeypatch, capsys, tmp_path, "-m", "resume=run", "seed=0,1")


def test_a_new_folder_begins_a_run(tmp_path):
    assert resumption(config(tmp_path / "new")) is None
    RunFolder(tmp_path / "empty").write_config(config(tmp_path / "empty"))
    assert resumption(config(tmp_path / "empty", "resume=never")) is None
    with pytest.raises(ConfigError, match="made no step"):
        resumption(config(tmp_path / "empty", f"resume={tmp_path}/empty"))


def test_a_run_goes_on_after_its_newest_whole_checkpoint_and_says_what_is_other(tmp_path):
    left_by_a_run(tmp_path, saved=(2, 3, 4))
    (tmp_path / CHECKPOINTS / "step_000004" / "manifest.json").unlink()
    (tmp_path / CHECKPOINTS / "step_000003" / "random.safetensors").write_bytes(b"")
    found = resumption(config(tmp_path, "learner=zero2", "learner.ranks=1", "steps=61"))
    assert found is not None
    assert found.checkpoint.step == 2
    before = "The checkpoint before it is used."
    assert found.lines == [
        f"Goes on after step 2, from {tmp_path}/checkpoints/step_000002",
        "The checkpoint of step 4 is damaged: manifest.json cannot be read (FileNotFoundError). " + before,
        "The checkpoint of step 3 is damaged: random.safetensors has 0 bytes instead of 16. " + before,
        "steps is 61, and was 60",
        "learner.ranks is 1, and was 2",
        "learner.zero_stage is 2, and was 1",
    ]


def test_lost_metrics_and_other_versions_are_said(tmp_path, monkeypatch):
    left_by_a_run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join(lines[1:]))
    monkeypatch.setattr("launch.resume.versions", lambda: versions() | {"torch": "9.9"})
    found = resumption(config(tmp_path, "logger.kinds=[wandb,tensorboard]"))
    assert found is not None
    assert found.lines[-3:] == [
        f"torch is 9.9, and was {versions()['torch']}",
        "metrics.jsonl has lost 1 of its rows up to step 2",
        "wandb: a run of its own begins there with step numbers that go on",
    ]


def test_what_cannot_be_gone_on_with_is_refused(tmp_path):
    left_by_a_run(tmp_path / "none", saved=())
    with pytest.raises(ConfigError, match="already holds a run; it has no whole checkpoint to go on from"):
        resumption(config(tmp_path / "none"))
    left_by_a_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run; give another folder, or resume=auto"):
        resumption(config(tmp_path / "run", "resume=never"))
    with pytest.raises(ConfigError, match="has made its 2 steps, and steps = 1: raise steps"):
        resumption(config(tmp_path / "run", "steps=1"))
    with pytest.raises(ConfigError) as error:
        resumption(config(tmp_path / "run", "seed=3", "entropy=kl_cov", "learner.learning_rate=0.1", "learner.ranks=1"))
    lines = str(error.value).splitlines()
    control = asdict(config(tmp_path, "entropy=kl_cov"))["entropy"]["kl_cov"]
    named = [line.split()[0] for line in lines[:-1]]
    assert named == ["seed", "learner.learning_rate", *(f"entropy.kl_cov.{key}" for key in control)]
    assert lines[0] == f"seed was 0 in the run of {tmp_path}/run and is 3."
    assert lines[-1].endswith("or resume_force=true.")
    assert resumption(config(tmp_path / "run", "seed=3", "resume_force=true")) is not None


def test_steps_may_change_where_nothing_is_laid_out_over_the_run(tmp_path):
    assert may_differ("steps", config(tmp_path))
    assert not may_differ("steps", config(tmp_path, "learner.schedule=cosine"))
    assert not may_differ("steps", config(tmp_path, "entropy=temperature"))
    assert not may_differ("steps", config(tmp_path, "entropy=prog_adv_stage"))


def test_every_copy_of_the_code_names_its_own_places_the_same(tmp_path):
    here = asdict(config(tmp_path))
    assert not differences(here, here | {"output": here["output"] | {"folder": "/elsewhere"}, "resume": "never"})
    assert differences(here, here | {"model": here["model"] | {"path": "/elsewhere"}}).keys() == {"model.path"}
