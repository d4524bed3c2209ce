"""Which isolation is taken, and that programs are refused where there is too little of it."""

from dataclasses import replace

import pytest
from attack import CONFIG

from reward.sandbox import Isolation, Sandbox, SandboxUnavailable


@pytest.fixture
def offered(monkeypatch):
    """Makes this machine offer no more than a level."""

    def offer(most):
        def probe(sandbox, packages):
            if sandbox.isolation > most:
                raise SandboxUnavailable(f"no {sandbox.isolation.name}")
            return ()

        monkeypatch.setattr(Sandbox, "_probe", probe)

    return offer


@pytest.mark.parametrize("most", list(Isolation))
def test_the_strongest_that_works(offered, most):
    offered(most)
    sandbox = Sandbox(CONFIG)
    assert sandbox.isolation is most
    assert f"programs run {most.name.lower()}" in sandbox.sentence()


@pytest.mark.parametrize("minimum", ["confined", "namespaced"])
def test_less_than_the_minimum(offered, minimum):
    offered(Isolation.LIMITS)
    with pytest.raises(SandboxUnavailable, match=f"reward.sandbox.minimum is '{minimum}'.*no NAMESPACED"):
        Sandbox(replace(CONFIG, minimum=minimum))


def test_exactly_one_level(offered):
    offered(Isolation.NAMESPACED)
    assert Sandbox(CONFIG, Isolation.CONFINED).isolation is Isolation.CONFINED
    offered(Isolation.LIMITS)
    with pytest.raises(SandboxUnavailable, match="'confined'"):
        Sandbox(CONFIG, Isolation.CONFINED)


def test_levels_are_ordered():
    assert Isolation.LIMITS < Isolation.CONFINED < Isolation.NAMESPACED


def test_limits_of_a_program():
    limits = CONFIG.limits(2.5)
    assert (limits.wall_s, limits.cpu_s, limits.processes) == (2.5, 2.5, 16)
    assert (limits.memory_bytes, limits.file_bytes, limits.output_bytes) == (268435456, 8388608, 65536)


def test_a_probe_that_finds_a_hole_refuses_the_level(monkeypatch):
    """The filter of system calls is missing, and the trial program gets a socket."""
    monkeypatch.setattr("reward.sandbox.sandbox.filter_program", lambda same_user: b"\x06\0\0\0\0\0\xff\x7f")
    with pytest.raises(SandboxUnavailable, match=r"not kept from.*sockets"):
        Sandbox(CONFIG, Isolation.NAMESPACED)
