"""The command line of a run: Hydra's, with errors in sentences."""

import os
import sys
import traceback
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from launch.config import CONF, ENTRY, HYDRA_VERSION, ConfigError, RunConfig, build, register
from launch.misspelt import explain

FULL_ERROR = "HYDRA_FULL_ERROR"
REFUSED = 2
FAILED = 1


class RunFailed(RuntimeError):
    """A run that started and could not go on. The message says why, and where to look or what to change."""


def hydra_entry(main: Callable[[RunConfig], None]) -> None:
    """Run `main` on the configuration of the command line, or on each point of a `--multirun` sweep.

    A ConfigError, from building the configuration or from `main`, ends a single run with exit status 2 and its
    sentences on stderr, a RunFailed likewise with status 1. In a sweep every failure is printed when its point fails,
    the later points run, and the exit status is not 0 at the end. With HYDRA_FULL_ERROR=1 errors come with their
    tracebacks instead.
    """
    register()
    refused: list[ConfigError | RunFailed] = []
    reported: list[Exception] = []

    def job(cfg: DictConfig) -> None:
        try:
            main(build(_with_run_folder(cfg)))
        except Exception as error:
            # Of all the points of a sweep that fail, Hydra raises only the first, and only after the last point.
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                _report(error, " ".join(HydraConfig.get().overrides.task))
                reported.append(error)
                raise
            # Raised here, it would come with Hydra's own line about the failed job.
            if not isinstance(error, ConfigError | RunFailed):
                raise
            refused.append(error)

    try:
        _with_errors_raised(hydra.main(version_base=HYDRA_VERSION, config_path=str(CONF), config_name=ENTRY)(job))
        if refused:
            raise refused[0]
    except (ConfigError, RunFailed, HydraException, OmegaConfBaseException) as error:
        if FULL_ERROR in os.environ:
            raise
        if error not in reported:
            plain = isinstance(error, ConfigError | RunFailed)
            print(error if plain else explain(error, RunConfig, CONF), file=sys.stderr)
        sys.exit(FAILED if isinstance(error, RunFailed) else REFUSED)


def _report(error: Exception, point: str) -> None:
    """What went wrong with one point of a sweep: sentences where they say it all, else the traceback."""
    print(f"Failed: {point}", file=sys.stderr)
    if isinstance(error, ConfigError | RunFailed):
        print(error, file=sys.stderr)
    else:
        traceback.print_exception(error)


def _with_run_folder(cfg: DictConfig) -> DictConfig:
    """output.folder as Hydra chose it: itself in a single run, the folder of the point in a sweep."""
    runtime = HydraConfig.get()
    given = any(override.lstrip("+").startswith("output.folder=") for override in runtime.overrides.task)
    if runtime.mode is RunMode.MULTIRUN and given:
        raise ConfigError("output.folder is the folder of one run; for a sweep give hydra.sweep.dir=...")
    OmegaConf.update(cfg, "output.folder", runtime.runtime.output_dir)
    return cfg


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
