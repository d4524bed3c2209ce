"""The command as a person types it, and its parts where a process would only be slower."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from launch.config import compose
from reward.grade import Rows, judged
from reward.keeper import Keeper
from reward.settings import SettingsError, reward_settings
from reward.types import FailureKind

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}


def command(verifier, *arguments):
    return [sys.executable, "-m", "reward.grade", "--verifier", verifier, "--children", "2", *arguments]


def start(verifier, *arguments, **streams):
    # A shell lets what it starts in the background ignore the interrupts of its terminal, and so would ours.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen(command(verifier, *arguments), env=ENVIRONMENT, cwd=ROOT, **heeding, **streams)


def grade(rows, verifier, *arguments):
    text = rows if isinstance(rows, bytes) else b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    process = start(verifier, *arguments, stdin=-1, stdout=-1, stderr=-1)
    out, err = process.communicate(text, timeout=120)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


def lines(*rows):
    return [json.dumps(row).encode() for row in rows]


def keeper(*names):
    verifiers = [f"faulty_verifiers:{name}" for name in names]
    return Keeper(verifiers, {}, 2, 20.0, 128, 1000, 32, start_timeout_s=60.0)


def test_rows_come_back_in_order_with_their_verdicts():
    rows = [{"id": i, "prediction": str(i), "gold": str(i - i % 2)} for i in range(200)]
    rows[3]["prediction"] = None
    rows[7]["gold"] = None
    status, found, said = grade(rows, "math")
    assert (status, said) == (0, "")
    assert [{key: row[key] for key in row if key != "verdict"} for row in found] == rows
    verdicts = [row["verdict"] for row in found]
    assert all(verdict.keys() == {"score", "failure", "rule", "seconds", "detail"} for verdict in verdicts)
    assert [verdict["score"] for verdict in verdicts] == [None if i == 7 else 1.0 - i % 2 for i in range(200)]
    assert (verdicts[3]["detail"], verdicts[7]["failure"]) == ("no answer", "bad_reference")


def test_an_unusable_line_is_named_and_those_before_it_are_judged():
    good = b'{"prediction": "72", "gold": "72"}\n'
    status, found, said = grade(good * 40 + b"\n \n" + b'{"prediction": "72"}\n' + good, "math")
    assert status == 2
    assert said == "line 43 of the input is unusable: there is no 'gold' in it\n"
    assert [row["verdict"]["score"] for row in found] == [1.0] * 40


def test_no_rows_and_no_end_of_line():
    assert grade(b"", "reasoning_gym") == (0, [], "")
    assert grade(b'{"prediction": "a", "gold": "a"}', "faulty_verifiers:echo")[1][0]["verdict"]["rule"] == "echo"


def test_what_a_verifier_prints_is_not_among_the_rows():
    status, found, said = grade([{"prediction": "a", "gold": "a"}] * 3, "faulty_verifiers:babble")
    assert (status, len(found)) == (0, 3)
    assert said.count("garbage" * 1000) == 3


def test_failures_are_verdicts_and_not_the_end():
    status, found, _ = grade(
        [{"prediction": "", "gold": ""}] * 3, "faulty_verifiers:hang", "--set", "reward.timeout_s=0.3"
    )
    assert status == 0
    assert [row["verdict"]["failure"] for row in found] == ["timeout"] * 3
    assert all(row["verdict"]["score"] is None for row in found)


@pytest.mark.parametrize(
    ("verifier", "arguments", "said"),
    [
        ("mahts", [], "unknown verifier 'mahts'; known are"),
        ("no_such_module:f", [], "cannot load the verifier 'no_such_module:f'"),
        ("math", ["--children", "0"], "--children = 0 has to be at least 1"),
        ("math", ["--set", "reward.timeot_s=1"], "reward.timeot_s"),
    ],
)
def test_a_command_that_cannot_be_followed_is_a_sentence(verifier, arguments, said):
    status, found, err = grade(b"", verifier, *arguments)
    assert (status, found) == (2, [])
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_reader_that_leaves_is_no_traceback():
    with start("faulty_verifiers:echo", stdin=-1, stdout=-1, stderr=-1) as process:
        process.stdout.close()
        process.stdin.write(b'{"prediction": "a", "gold": "a"}\n' * 5)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE


def test_an_interrupt_ends_it_at_once_and_leaves_no_process():
    patient = ("--set", "reward.timeout_s=60")
    with start("faulty_verifiers:hang", *patient, stdin=-1, stdout=-1, stderr=-1) as process:
        process.stdin.write(b'{"prediction": "a", "gold": "a"}\n' * 40)
        process.stdin.close()
        deadline = time.monotonic() + 60.0
        while len(family := psutil.Process(process.pid).children(recursive=True)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(30.0) == 128 + signal.SIGINT
        assert process.stderr.read() == b""
    _, alive = psutil.wait_procs(family, timeout=5.0)
    assert len(family) == 3
    assert alive == []


def test_a_progress_bar_on_a_terminal_alone():
    ours, theirs = pty.openpty()
    with start("faulty_verifiers:echo", stdin=-1, stdout=-1, stderr=theirs) as process:
        os.close(theirs)
        out, _ = process.communicate(b'{"prediction": "a", "gold": "a"}\n' * 5, timeout=60)
    assert "5 rows, 0 failed" in os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert [json.loads(line)["verdict"]["score"] for line in out.splitlines()] == [1.0] * 5


def test_input_is_read_as_verdicts_leave():
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield b'{"prediction": "%s", "gold": ""}' % (b"x" * 10_000)

    rows = judged(Rows(endless(), "faulty_verifiers:echo"), lambda: keeper("echo"))
    for place in range(2000):
        next(rows)
        assert len(taken) - place < 32 * 2**20 / 10_000 + 1000
    rows.close()


def test_rows_without_an_answer_are_not_saved_up():
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield b'{"prediction": null, "gold": ""}'

    rows = judged(Rows(endless(), "faulty_verifiers:echo"), lambda: keeper("echo"))
    assert [next(rows)[1].detail for _ in range(5000)] == ["no answer"] * 5000
    assert len(taken) <= 6000
    rows.close()


def test_a_request_that_ends_the_fork_server_costs_itself_alone():
    rows = lines(*({"prediction": "a" if i != 20 else "kill", "gold": "a"} for i in range(60)))
    rows.insert(10, b'{"prediction": null, "gold": "a"}')
    found = list(judged(Rows(rows, "faulty_verifiers:kill_server_on_kill"), lambda: keeper("kill_server_on_kill")))
    assert [place for place, (_, verdict) in enumerate(found) if verdict.failure is FailureKind.CRASH] == [21]
    assert [place for place, (_, verdict) in enumerate(found) if verdict.score != 1.0] == [10, 21]
    assert len(found) == 61


def test_the_settings_are_those_of_a_run():
    assert reward_settings([]) == compose([]).reward
    assert reward_settings(["reward.timeout_s=7"]) == compose(["reward.timeout_s=7"]).reward
    for wrong in ("reward.timeot_s=7", "reward.timeout_s=soon", "reward", "other.key=1"):
        with pytest.raises(SettingsError):
            reward_settings([wrong])
