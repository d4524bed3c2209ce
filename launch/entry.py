"""The command line of a run: Hydra's, with errors in sentences."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from launch import stopping, sweep
from launch.checkpoint_folder import CHECKPOINTS, steps_in
from launch.config import CONF, ENTRY, HYDRA_VERSION, ConfigError, RunConfig, build, register
from launch.misspelt import explain, in_no_section
from launch.points import FAILED as POINT_FAILED
from launch.points import FAILED_MARK, FINISHED, UNFINISHED, Point, Sweep, is_finished, point_name
from launch.points import REFUSED as POINT_REFUSED
from launch.resume import AUTO, with_stored
from launch.run_folder import config_hash

FULL_ERROR = "HYDRA_FULL_ERROR"
REFUSED = 2
FAILED = 1


class RunFailed(RuntimeError):
    """A run that started and could not go on. The message says why, and where to look or what to change."""


def hydra_entry(main: Callable[[RunConfig], None]) -> None:
    """Run `main` on the configuration of the command line, or on each point of a `--multirun` sweep.

    A ConfigError, from building the configuration or from `main`, ends a single run with exit status 2 and its
    sentences on stderr, a RunFailed likewise with status 1. SIGTERM and Ctrl-C end the run or the whole sweep in words,
    with 128 + the signal's number. In a sweep every failure is printed and recorded when its point fails, the later
    points run, a table closes it, and the exit status is `launch.sweep.exit_status` of its points. Those that an
    earlier sweep in the same folder has finished are left out; one that another process is running now ends the sweep
    with status 2. With HYDRA_FULL_ERROR=1 errors come with their tracebacks instead.
    """
    register()
    refused: list[ConfigError | RunFailed] = []
    sweeps: list[Sweep] = []

    def job(cfg: DictConfig) -> None:
        runtime = HydraConfig.get()
        folder, overrides = Path(runtime.runtime.output_dir), list(runtime.overrides.task)
        try:
            if runtime.mode is not RunMode.MULTIRUN:
                main(_build(cfg, folder, overrides))
                return
            if any(override.startswith("resume=") and override != "resume=never" for override in overrides):
                raise ConfigError("resume=<folder> is for one run; the points of a sweep go on by themselves.")
            if any(override.lstrip("+").startswith("output.folder=") for override in overrides):
                raise ConfigError("output.folder is the folder of one run; for a sweep give hydra.sweep.dir=...")
            if refused:
                return
            if not sweeps:
                sweeps.append(Sweep(folder))
            with sweeps[0].held(point_name(overrides)):
                _run_point(sweeps[0], overrides, cfg, main)
        except (ConfigError, RunFailed) as error:
            # Raised here, it would come with Hydra's own line about the failed job.
            refused.append(error)

    try:
        with stopping.heeding():
            _with_errors_raised(hydra.main(version_base=HYDRA_VERSION, config_path=str(CONF), config_name=ENTRY)(job))
        if refused:
            raise refused[0]
    except KeyboardInterrupt as error:
        if FULL_ERROR in os.environ:
            raise
        print(str(error) or stopping.sentence(), file=sys.stderr)
        sys.exit(error.status if isinstance(error, stopping.RunStopped) else stopping.exit_status())
    except (ConfigError, RunFailed, HydraException, OmegaConfBaseException) as error:
        if FULL_ERROR in os.environ:
            raise
        plain = isinstance(error, ConfigError | RunFailed)
        print(error if plain else explain(error, RunConfig, CONF), file=sys.stderr)
        sys.exit(FAILED if isinstance(error, RunFailed) else REFUSED)
    except (AssertionError, AttributeError) as error:
        sentence = in_no_section(error, sys.argv[1:], RunConfig, CONF)
        if sentence is None or FULL_ERROR in os.environ:
            raise
        print(sentence, file=sys.stderr)
        sys.exit(REFUSED)
    if sweeps:
        found = sweep.close(sweeps[0].folder)
        sys.exit(sweep.exit_status(result.point for result in found if result.point.name in sweeps[0].asked))


def _run_point(points: Sweep, overrides: list[str], cfg: DictConfig, main: Callable[[RunConfig], None]) -> None:
    """Run one point unless it is finished, and record what became of it. What it raises ends here."""
    named, name = " ".join(overrides), point_name(overrides)
    folder = points.folder / name

    def record(status: str, error: str | None = None) -> None:
        points.record(Point(name, tuple(overrides), status, error))

    record(UNFINISHED)
    try:
        config = _build(cfg, folder, overrides)
        if is_finished(folder, config_hash(config)):
            print(f"Already finished: {named}")
        else:
            if config.resume == AUTO and steps_in(folder / CHECKPOINTS):
                print(f"Goes on: {named}")
            elif kept := points.set_aside(name):
                print(f"Again: {named}; the earlier attempt is in {kept}")
            main(config)
        record(FINISHED)
    except Exception as error:  # noqa: BLE001  a sweep outlives whatever happens to a point
        plain = isinstance(error, ConfigError | RunFailed)
        if not plain:
            traceback.print_exception(error)
        why = str(error) if plain else f"{type(error).__name__}: {error}"
        print(f"{FAILED_MARK}{named}\n{why}", file=sys.stderr)
        record(POINT_REFUSED if isinstance(error, ConfigError) else POINT_FAILED, why)


def _build(cfg: DictConfig, folder: Path, overrides: list[str]) -> RunConfig:
    OmegaConf.update(cfg, "output.folder", str(folder))
    config = build(with_stored(cfg, overrides))
    if config.output.folder != str(folder.absolute()):
        with suppress(OSError):  # Hydra has made the folder of a new run, and this is none
            folder.rmdir()
            folder.parent.rmdir()
    return config


def _with_errors_raised(command: Callable[[], None]) -> None:
    """Call Hydra with the one variable set that makes it raise errors instead of printing them and exiting."""
    given = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        command()
    finally:
        if given is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = given
