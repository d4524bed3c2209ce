"""Programs that are a module which the sandbox has loaded, and the process they are forked from."""

import json
import os
import signal
import threading

import pytest
from attack import CONFIG, LIMITS

from reward.sandbox import End, Isolation, Program, Sandbox, SandboxUnavailable

MODULE = "tests.reward.sandbox.loaded"


@pytest.fixture(scope="module", params=sorted(Isolation, reverse=True), ids=lambda level: level.name.lower())
def loading(request):
    try:
        return Sandbox(CONFIG, request.param, [MODULE])
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def found(sandbox, *arguments, **fields):
    outcome = sandbox.run(Program((MODULE, *arguments), module=MODULE, **fields), LIMITS)
    assert (outcome.end, outcome.exit_code, outcome.stderr) == (End.EXITED, 0, b"")
    return json.loads(outcome.stdout)


def test_what_it_finds_is_what_a_fresh_python_has(loading):
    read, write = os.pipe()
    with open(read), open(write, "w"):
        seen = found(loading, "x", files={"a.txt": b""}, stdin=b"\xc3\xa9\xff", pass_fds=(write,))
        assert seen["descriptors"] == [0, 1, 2, write]
    assert seen["argv"] == [MODULE, "x"]
    assert seen["stdin"] == "\u00e9\udcff"
    assert seen["folder"] == ["a.txt"]
    assert seen["main"] is None
    assert not [name for name in seen["modules"] if name.partition(".")[0] == "launcher"]
    code = (
        "import os, sys, json\n"
        "def deepest(depth=1):\n    try: return deepest(depth + 1)\n    except RecursionError: return depth\n"
        "print(json.dumps([dict(os.environ), sys.path, deepest()]))"
    )
    fresh = loading.run(Program(loading.python_argv("-c", code)), LIMITS)
    environment, path, depth = json.loads(fresh.stdout)
    random = ("HOME", "PWD", "TMPDIR")  # the scratch folder, of another name below the level of namespaces
    assert environment.keys() == seen["environment"].keys()
    for name in environment.keys() - set(random):
        assert seen["environment"][name] == environment[name]
    assert seen["path"] == [entry for entry in path if entry]
    assert abs(seen["deepest"] - depth) <= 2


def test_nothing_stays_for_the_next(loading):
    assert [found(loading)["held"] for _ in range(2)] == ["since the sandbox started"] * 2


def test_an_exception_is_told_on_stderr(loading):
    outcome = loading.run(Program((MODULE, "raise"), module=MODULE), LIMITS)
    assert (outcome.end, outcome.exit_code, outcome.stdout) == (End.EXITED, 1, b"")
    assert outcome.stderr.endswith(b"LookupError: on purpose\n")


def test_many_at_a_time(loading):
    seen = {}

    def run(number):
        seen[number] = found(loading, str(number))["argv"][1]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {number: str(number) for number in range(8)}


def test_the_process_they_are_forked_from_is_started_again():
    sandbox = Sandbox(CONFIG, Isolation.LIMITS, [MODULE])
    before = _server(sandbox)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert found(sandbox)["held"] == "since the sandbox started"
    assert _server(sandbox) != before


def test_it_ends_with_the_sandbox():
    sandbox = Sandbox(CONFIG, Isolation.LIMITS)
    server = _server(sandbox)
    sandbox._launchers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def _server(sandbox):
    """Its process id."""
    _, process, _ = sandbox._launchers.close.peek()[2]
    return process.pid
