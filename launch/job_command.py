"""The shell commands that jobs of a cluster run."""

import re
import shlex
from collections.abc import Sequence


def train_command(python: str, arguments: Sequence[str], key: str, folder: str) -> str:
    """`launch.train` with `arguments`, and the absolute `folder` as the value of the setting `key`."""
    if not re.fullmatch(r"[\w./-]+", folder):
        folder = "'" + folder.replace("'", r"\'") + "'"  # else a part of Hydra's own grammar
    return shlex.join([python, "-m", "launch.train", *arguments, f"{key}={folder}"])


def table_command(python: str, folder: str) -> str:
    """`launch.sweep`, which prints the table of the sweep in `folder`."""
    return shlex.join([python, "-m", "launch.sweep", folder])
