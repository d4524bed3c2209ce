"""Puts this folder on the path: the child processes load `faulty_verifiers` by import path, as users load their own."""

import sys
from pathlib import Path

import pytest

from reward.types import VerificationRequest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def request_for():
    """Builds a request; `name` is a registered verifier or a function of `faulty_verifiers`."""

    def build(name, response="", gold=None):
        verifier = name if name in ("instructions", "math", "reasoning_gym") else f"faulty_verifiers:{name}"
        return VerificationRequest(verifier=verifier, prompt="", response=response, gold=gold, metadata={})

    return build
