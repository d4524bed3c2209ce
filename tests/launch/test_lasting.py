"""When a run that lost actors goes on by itself."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from launch import lasting as lasting_module
from launch.checkpoint_folder import CHECKPOINTS
from launch.config import RunConfig
from launch.entry import RunFailed
from launch.lasting import lasting
from launch.run_folder import RunFolder, read_metrics
from learner.group import LearnerFailed
from rollout.failures import RolloutFailed
from tests.composed import compose


def config(folder: Path, *overrides: str) -> RunConfig:
    plain = compose(["output.folder=unused", *overrides])
    return replace(plain, output=replace(plain.output, folder=str(folder)))


class Run:
    """Makes the steps it is told to, then loses a learner rank, or `cause`; ends well when there is nothing to do."""

    def __init__(self, *reached: int, saved: bool = True, cause: type[Exception] = LearnerFailed):
        self._reached, self._saved, self._cause = list(reached), saved, cause
        self.found: list[tuple[str, list[float]]] = []

    def __call__(self, config: RunConfig) -> str:
        folder = RunFolder(config.output.folder)
        rows = read_metrics(folder)
        self.found.append((config.resume, [row["step"] for row in rows]))
        if not self._reached:
            return "done"
        folder.rewind(-1)
        for step in range(self._reached.pop(0) + 1):
            folder.append_metrics({"step": step})
        if self._saved:
            (folder.path / CHECKPOINTS / "step_000001").mkdir(parents=True, exist_ok=True)
        raise RunFailed("LearnerFailed: rank 1 died\nlogs: there") from self._cause("rank 1 died")


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(lasting_module.time, "sleep", found.append)
    return found


def test_it_goes_on_and_says_so(tmp_path, capsys):
    run = Run(4)
    assert lasting(run)(config(tmp_path, "resume=never")) == "done"
    assert run.found == [("never", []), ("auto", [0, 1, 2, 3, 4])]
    assert "rank 1 died\nThe run starts again (1 of checkpoint.restarts = 3)." in capsys.readouterr().out


def test_before_the_first_checkpoint_it_begins_again(tmp_path):
    run = Run(4, saved=False)
    assert lasting(run)(config(tmp_path)) == "done"
    assert run.found[1] == ("auto", [])


def test_a_step_further_renews_the_budget_and_standing_still_uses_it_up(tmp_path, pauses):
    run = Run(4, 5, 6, 7, 8, 8, 8)
    assert lasting(run)(config(tmp_path, "checkpoint.restarts=3")) == "done"
    assert pauses == [2.0, 4.0]
    stuck = Run(8, 8, 8, 8)
    with pytest.raises(RunFailed, match=r"rank 1 died\n(.*\n)*after 3 restarts without a further step"):
        lasting(stuck)(config(tmp_path / "stuck", "checkpoint.restarts=3"))
    assert len(stuck.found) == 4


@pytest.mark.parametrize("setting", ["checkpoint.restarts=0", "checkpoint.every=0"])
def test_it_can_be_told_not_to(tmp_path, setting):
    with pytest.raises(RunFailed, match=r"rank 1 died\nlogs: there$"):
        lasting(Run(4))(config(tmp_path, setting))


def test_what_another_start_would_not_help_ends_the_run(tmp_path):
    with pytest.raises(RunFailed):
        lasting(Run(4, cause=RolloutFailed))(config(tmp_path))


class Held:
    """What a run holds, in a cycle as actors and their failures are."""

    def __init__(self):
        self.itself = self


def test_what_the_lost_run_held_is_gone_before_it_starts_again(tmp_path):
    held: list[weakref.ref] = []
    lost = Run(4)

    def run(config: RunConfig) -> str:
        assert [each() for each in held] == [None] * len(held)
        mine = Held()
        held.append(weakref.ref(mine))
        return lost(config)

    gc.disable()
    try:
        assert lasting(run)(config(tmp_path)) == "done"
    finally:
        gc.enable()
    assert len(held) == 2
