import pytest

from launch.config import compose
from reward.config import RewardConfig
from reward.verifiers.code import make


def reward_config(*overrides: str) -> RewardConfig:
    """The settings of conf/reward, with times for a busy machine."""
    times = ("code.test_timeout_s=1.5", "code.total_timeout_s=8", "timeout_s=30", "deadline_s=500")
    return compose([f"reward.{override}" for override in (*times, *overrides)]).reward


@pytest.fixture(scope="session")
def verifier():
    return make(reward_config().verifier_settings())


@pytest.fixture(scope="session")
def sharing():
    """Scores are the shares of the tests that pass."""
    return make(reward_config("code.scoring=share").verifier_settings())
