"""Settings of the verifier of programs; defaults and help lines live in conf/reward."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CodeConfig:
    """
    test_timeout_s   for loading the program, and for each of its tests
    total_timeout_s  for all tests of one program, with the start of its processes
    scoring          all (1 where every test passes, else 0) | share (of the tests that pass)
    tolerance        for decimal fractions in stdout and in returned values, absolute or relative
    """

    test_timeout_s: float
    total_timeout_s: float
    scoring: str
    tolerance: float
