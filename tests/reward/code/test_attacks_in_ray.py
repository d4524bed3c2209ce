"""All attacks on all shapes as the requests of a run: in a Ray worker, one after another in few children."""

import time

import psutil
import pytest

from reward.pool import RewardPool
from reward.types import VerificationRequest
from tests.reward.code.attacks import CASES, GOLDS, HONEST
from tests.reward.code.conftest import reward_config

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.slow]


def test_the_worker_survives_all_attacks_and_honest_programs_pass_among_them():
    requests, expected = [], []
    for i, (_, shape, program, _) in enumerate(CASES):
        requests.append(VerificationRequest("code", "", f"```python\n{program}\n```", GOLDS[shape], {}))
        expected.append(0.0)
        if i % 5 == 0:  # what an attack leaves behind would show in those that follow
            requests.append(VerificationRequest("code", "", f"```python\n{HONEST[shape]}\n```", GOLDS[shape], {}))
            expected.append(1.0)
    config = reward_config("children_per_worker=2", "code.test_timeout_s=1")
    with RewardPool(config, ["code"]) as pool:
        pool.wait_ready()
        before = {process.pid for process in psutil.process_iter()}
        verdicts = pool.verify(requests)
        assert not [(verdict, i) for i, verdict in enumerate(verdicts) if verdict.failure is not None]
        assert [verdict.score for verdict in verdicts] == expected
        for (_, _, _, detail), verdict in zip(CASES, (v for v in verdicts if v.score == 0.0), strict=True):
            assert detail in verdict.detail
            assert verdict.detail
        time.sleep(1.0)
        left = [p for p in psutil.process_iter(["pid", "cmdline", "username"]) if p.pid not in before]
        commands = [" ".join(p.info["cmdline"] or ()) for p in left]
        assert not [command for command in commands if "launcher.server" in command or "script.py" in command]
