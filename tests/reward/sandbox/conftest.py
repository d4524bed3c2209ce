"""Attacks run at every level of isolation this machine offers, and must leave nothing behind at any of them."""

import os
import secrets
import tempfile
from pathlib import Path

import pytest
from attack import CONFIG, Attack, carriers

from reward.sandbox import Isolation, Sandbox, SandboxUnavailable


@pytest.fixture(scope="session", params=sorted(Isolation, reverse=True), ids=lambda level: level.name.lower())
def sandbox(request):
    try:
        return Sandbox(CONFIG, request.param)
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def attack(sandbox, monkeypatch) -> Attack:
    """Checks afterwards that neither a process nor a file of the program is left."""
    token = f"token-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="sandbox-test-") as folder:
        os.chmod(folder, 0o711)  # a program's user has to pass
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Attack(sandbox, token)
        assert carriers(token) == []
        assert os.listdir(folder) == []


@pytest.fixture
def outside():
    """A folder where every user may do everything."""
    with tempfile.TemporaryDirectory(prefix="sandbox-outside-", dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)
