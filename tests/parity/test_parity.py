"""Our learner and TRL's trainer move the same weights to the same place. `make parity` records TRL's side anew."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.parity.cases import CASES, MODEL, RECORD, VECTORS
from tests.parity.updates import recorded_advantages, settings

ROOT = Path(__file__).parents[2]
CLIPPED_BY_TOKEN = [name for name, case in CASES.items() if "epsilon" in case.trl and name != "gspo"]

recorded: dict[str, dict[str, Any]] = json.loads(RECORD.read_text())["results"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and metrics of our updates of every case."""
    folder = tmp_path_factory.mktemp("updates")
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.parity.updates", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def metrics(folder: Path, case: str, name: str) -> list[float]:
    return [update[name] for update in json.loads((folder / f"{case}.json").read_text())]


@pytest.mark.parametrize("case", CASES)
def test_weights_after_three_updates(ours: Path, case: str):
    expected, found = load_file(VECTORS / f"{case}.safetensors"), load_file(ours / f"{case}.safetensors")
    start = load_file(MODEL / "model.safetensors")
    assert found.keys() == expected.keys() == start.keys()
    assert max(np.abs(expected[name] - start[name]).max() for name in start) > 5e-3
    assert max(np.abs(expected[name] - found[name]).max() for name in expected) < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_advantages(case: str):
    found = recorded_advantages(settings(CASES[case]).algorithm)
    np.testing.assert_allclose(found, recorded[case]["advantages"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradient_norm_of_each_update(ours: Path, case: str):
    np.testing.assert_allclose(
        metrics(ours, case, "policy/grad_norm"), recorded[case]["gradient_norms"], rtol=2e-5, atol=0
    )


# TRL logs the plain mean over its passes of each pass's mean, which is the tokens' only where there is one pass.
@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.microbatches == 1])
def test_entropy_before_each_update(ours: Path, case: str):
    np.testing.assert_allclose(
        metrics(ours, case, "entropy/update_mean"), recorded[case]["entropies"], rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("case", [name for name in CLIPPED_BY_TOKEN if CASES[name].microbatches == 1])
def test_clipped_shares_of_each_update(ours: Path, case: str):
    """Both bounds are crossed, by the same tokens."""
    shares = recorded[case]["clipped"]
    assert min(shares["clip_ratio/low"][1:] + shares["clip_ratio/high"][1:]) > 0
    for side in ("low", "high"):
        np.testing.assert_allclose(
            metrics(ours, case, f"policy/clip_{side}_share"), shares[f"clip_ratio/{side}"], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("case", CASES)
def test_loss_of_each_update(ours: Path, case: str):
    np.testing.assert_allclose(metrics(ours, case, "policy/loss"), recorded[case]["losses"], rtol=0, atol=2e-6)


def test_pins_are_the_versions_that_were_recorded():
    pins = dict(
        line.split("==") for line in (ROOT / "requirements/parity.txt").read_text().splitlines() if "==" in line
    )
    packages = json.loads(RECORD.read_text())["provenance"]["packages"]
    assert packages.pop("torch").startswith("2.13.0")
    assert {name: pins[name] for name in packages} == packages
