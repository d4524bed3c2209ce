"""Settings for tests, composed once for the same overrides: composing takes a fifth of a second."""

from collections.abc import Sequence
from functools import cache

from launch import config
from launch.config import RunConfig


def compose(overrides: Sequence[str]) -> RunConfig:
    """`launch.config.compose`, remembered. Not for what depends on the working directory or the environment."""
    return _composed(tuple(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> RunConfig:
    return config.compose(overrides)
