"""A step of a run trained on again, alone: `python -m launch.replay RUN step=7 [learner.ranks=1 ...]`.

Takes the newest checkpoint before the step and the batches from there on, and starts the learner only. Prints the
metrics of the update beside those the run recorded, and how far weights and moments are from the checkpoint of the step
where there is one. docs/replay.md.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from launch import stopping
from launch.batch_file import BatchUnusable, SavedBatch, read_batch, steps_saved
from launch.checkpoint_folder import CHECKPOINTS, Checkpoint, CheckpointDamaged, folder_name, newest, open_checkpoint
from launch.checkpoints import BUCKET_BYTES
from launch.config import ConfigError, RunConfig, compose
from launch.failures import FAILURES, sentence
from launch.learner_alone import learner_alone
from launch.resume import differences
from launch.run_folder import LOGS, RunFolderError, read_metrics
from launch.same_update import Figure, Gap, Recorded, figures, gap
from launch.updates import skip_sentence
from launch.validate import learner_problems
from learner.finite import WeightsNotFinite
from learner.group import Updated

SAME, DIFFERS, REFUSED = 0, 1, 2
# Sections of metrics.jsonl that come from the update alone.
OF_UPDATE = ("policy", "dynamics")
# Counted over the steps of a run.
NOT_OF_A_STEP = ("policy/skipped_in_a_row",)


class ReplayRefused(ValueError):
    """The step cannot be trained on again. The message is a sentence."""


@dataclass(frozen=True)
class Replay:
    """What there is of a step.

    before    the newest checkpoint before the step; None: the run began there
    steps     whose batches are trained on, the step itself the last
    reached   the checkpoint after the step, where there is one in the portable form
    recorded  the metrics of the step; None where the run ended in it
    """

    before: Checkpoint | None
    steps: list[int]
    reached: Checkpoint | None
    recorded: dict[str, float] | None


def find(run: Path, step: int) -> Replay:
    """Raises ReplayRefused where something is missing."""
    before, damaged = newest(run / CHECKPOINTS, step - 1)
    if before and before.native:
        raise ReplayRefused(
            f"step {step} is reached from the checkpoint of step {before.step}, which is in DeepSpeed's own form, and "
            "only checkpoint.form = portable can be trained on again."
        )
    start = before.step if before else 0
    steps, saved = list(range(start + 1, step + 1)), set(steps_saved(run))
    if missing := [each for each in steps if each not in saved]:
        whence = f"from the checkpoint of step {start}" if before else "from the model that the run began with"
        raise ReplayRefused(
            f"step {step} is reached {whence} over the batches of steps {steps[0]} to {step}, and {run} lacks "
            f"{', '.join(map(str, missing))}: output.save_batches=all keeps every batch, and a smaller "
            f"checkpoint.every with a larger checkpoint.keep_last more states. {' '.join(damaged)}".rstrip()
        )
    try:
        reached = open_checkpoint(run / CHECKPOINTS / folder_name(step))
    except CheckpointDamaged:
        reached = None
    if reached and reached.native:
        reached = None
    rows = [row for row in read_metrics(run) if row["step"] == step]
    return Replay(before, steps, reached, rows[0] if rows else None)


def replay(run: Path, step: int, overrides: Sequence[str]) -> int:
    """Train on the step again and print what came of it; the exit status.

    Raises ConfigError, ReplayRefused, BatchUnusable, RunFolderError and what is in `FAILURES`.
    """
    taken_up = "resume='" + str(run).replace("'", "\\'") + "'"
    stored, config = compose([taken_up]), compose([taken_up, *overrides])
    if problems := learner_problems(config):
        raise ConfigError("\n".join(problems))
    found = find(run, step)
    for key, (was, now) in differences(asdict(stored), asdict(config)).items():
        print(f"{key} is {now}, and was {was}")
    print(
        f"From {found.before.path if found.before else config.model.path}, steps {found.steps[0]} to {step}", flush=True
    )
    batches = [read_batch(run, each) for each in found.steps]
    try:
        updated, apart = _train(config, run, found, batches)
    except WeightsNotFinite as error:
        print(f"{error}.")
        return DIFFERS
    return _report(config, step, found, updated, apart)


def _train(config: RunConfig, run: Path, found: Replay, batches: Sequence[SavedBatch]) -> tuple[Updated, Gap | None]:
    with learner_alone(config, found.before, run / LOGS / "replay") as group:
        for saved in batches[:-1]:
            group.update(saved.batch, saved.step - 1)
        last = batches[-1]
        before = group.snapshot(BUCKET_BYTES) if found.reached else None
        updated = group.update(last.batch, last.step - 1)
        if found.reached is None or before is None:
            return updated, None
        return updated, gap(Recorded(found.reached), before.wholes(), group.snapshot(BUCKET_BYTES).wholes())


def _report(config: RunConfig, step: int, found: Replay, updated: Updated, apart: Gap | None) -> int:
    dtype = config.model.dtype
    if updated.skipped:
        print(f"{skip_sentence(step, updated.skipped, updated.applied + len(updated.skipped))}.")
    if found.recorded is None:
        print(f"metrics.jsonl has no step {step}: the run ended in it.")
        print(table([Figure(name, None, value) for name, value in updated.metrics.items()]))
        return DIFFERS if updated.skipped else SAME
    recorded = {name: value for name, value in found.recorded.items() if name not in NOT_OF_A_STEP}
    compared = figures(recorded, updated.metrics, OF_UPDATE)
    print(table(compared))
    beyond = [figure.name for figure in compared if not figure.equal and not figure.close(dtype)]
    equal = sum(figure.equal for figure in compared)
    print(
        f"\n{len(compared)} figures of step {step}: {equal} equal, {len(compared) - equal - len(beyond)} within "
        f"round-off, {len(beyond)} beyond{': ' * bool(beyond)}{', '.join(beyond)}."
    )
    if apart is None:
        print(f"Weights and moments were not compared: there is no checkpoint of step {step} in the portable form.")
    elif apart.equal:
        print(f"Weights and moments are those of the checkpoint of step {step}, bit for bit.")
    else:
        share = (apart.distance / apart.moved) ** 0.5 if apart.moved else float("inf")
        print(
            f"Weights differ from the checkpoint of step {step} by {apart.largest:.3g} at most, and together by "
            f"{share:.2g} of how far they moved in the step."
        )
    return SAME if not beyond and (apart is None or apart.equal or apart.close(dtype)) else DIFFERS


def table(compared: Sequence[Figure]) -> str:
    """A line for each metric: as recorded, as computed again, and the difference."""
    lines = [f"{'metric':<40}{'recorded':>16}{'again':>16}{'difference':>14}"]
    for figure in compared:
        recorded, again = ("-" if value is None else f"{value:.8g}" for value in (figure.recorded, figure.again))
        apart = figure.difference
        difference = "-" if apart is None else "0" if figure.equal else f"{apart:.2e}"
        lines.append(f"{figure.name:<40}{recorded:>16}{again:>16}{difference:>14}")
    return "\n".join(lines)


def _arguments(arguments: Sequence[str] | None) -> tuple[Path, int, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m launch.replay", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("step", metavar="step=N", help="the step to train on again")
    parser.add_argument("settings", nargs="*", metavar="setting=value", help="settings that differ from the run's")
    asked = parser.parse_args(arguments)
    name, _, number = asked.step.partition("=")
    if name != "step" or not number.isdecimal() or int(number) < 1:
        parser.error(f"{asked.step} is not step=N with N from 1")
    return asked.run.absolute(), int(number), asked.settings


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 for the same update, 1 for another or one that was skipped, 2 where it cannot be made."""
    run, step, overrides = _arguments(arguments)
    try:
        with stopping.heeding():
            return replay(run, step, overrides)
    except (ConfigError, ReplayRefused, RunFolderError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    except BatchUnusable as error:
        print(f"{error}.", file=sys.stderr)
        return REFUSED
    except FAILURES as error:
        print(sentence(error), file=sys.stderr)
        return DIFFERS
    except KeyboardInterrupt:
        print(stopping.sentence(), file=sys.stderr)
        return stopping.exit_status()


if __name__ == "__main__":
    sys.exit(main())
