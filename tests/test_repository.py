"""What would drift unnoticed between files."""

import re
import tomllib
from pathlib import Path

from benchmarks import learner
from benchmarks.step import figures
from launch.phases import PHASES

ROOT = Path(__file__).parents[1]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_exact_pins_agree_with_the_set_that_setup_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cpu"], *extras["dev"]]
    pins = dict(match.groups() for line in wanted if (match := re.match(r"([\w.-]+)(?:\[.*\])?==(\S+)$", line)))
    lines = (ROOT / "requirements/cpu.txt").read_text().splitlines()
    installed = {normal(name): version for name, version in (line.split("==") for line in lines if "==" in line)}
    makefile = (ROOT / "Makefile").read_text()
    assert f"torch=={pins.pop('torch')}+cpu" in makefile
    assert {name: installed.get(normal(name)) for name in pins} == pins


def test_nothing_that_breaks_vllm_on_cpu_is_installed():
    text = (ROOT / "requirements/cpu.txt").read_text()
    assert not re.search(r"^(torch|torchvision|torchaudio|torchcodec|nvidia-.*)==", text, re.MULTILINE)


def test_step_benchmark_takes_medians_after_the_warm_up_and_shares_add_up():
    def row(step: int, seconds: float) -> dict[str, float]:
        phases = {f"time/{name}_s": seconds / 10 for name in PHASES if name != "evaluate"}
        rest = seconds - sum(phases.values())
        return (
            {"step": step, "time/step_s": seconds, "time/other_s": rest, "time/evaluate_s": 0.0}
            | phases
            | {
                "speed/generated_tokens_per_s": 100 / seconds,
                "speed/trained_tokens_per_s": 50 / seconds,
            }
        )

    slow_start = [row(0, 90.0) | {"memory/total_bytes": 5}, *(row(step, 60.0) for step in (1, 2, 3))]
    found = figures([*slow_start, row(4, 1.0), row(5, 2.0), row(6, 4.0)], started_s=30.0)
    assert found["step_s"] == 2.0
    assert found["generated_tokens_per_s"] == 50.0
    assert abs(sum(value for key, value in found.items() if key.startswith("share_")) - 1.0) < 1e-9
    assert found["memory_bytes"] == 5


def test_learner_benchmark_takes_medians_and_the_ratio_of_neighbouring_steps():
    def steps(*seconds: float) -> list[dict[str, float]]:
        return [{"seconds": s, "cpu_s": s / 2, "passes": 3, "padding_efficiency": 0.9} for s in seconds]

    found = learner.figures({"entrain": steps(1, 2, 5), "trl": steps(3, 4, 5)}, response_tokens=10)
    assert found["entrain_step_s"] == 2
    assert found["trl_trained_tokens_per_s"] == 2.5
    assert (found["ratio_min"], found["ratio"], found["ratio_max"]) == (1, 2, 3)
    assert found["ratio_cpu"] == 2
    assert "ratio" not in learner.figures({"entrain": steps(1)}, response_tokens=10)
