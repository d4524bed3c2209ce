import pytest

from reward.verifiers.code import make

SANDBOX = {
    "minimum": "confined",
    "packages": True,
    "memory_mb": 512,
    "processes": 32,
    "file_mb": 16,
    "output_kb": 256,
}


def settings(**code):
    """Sections of the settings; the times suit a busy machine."""
    return {
        "code": {"test_timeout_s": 1.5, "total_timeout_s": 8.0, "scoring": "all", "tolerance": 1e-6, **code},
        "sandbox": SANDBOX,
    }


@pytest.fixture(scope="session")
def verifier():
    return make(settings())


@pytest.fixture(scope="session")
def sharing():
    """Scores are the shares of the tests that pass."""
    return make(settings(scoring="share"))
