"""A program and its tests in the sandbox.

The program is alone in its process. Its tests are in another one, or in this one where they compare plain data only;
they call the program over a socket, and they alone say what passed. The tests of one program share one process of it,
so what follows a test that ended the program, or in which it hung, has failed too. A script is started for each test.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from reward.code.commands import Commands
from reward.code.compare import same_output, same_value
from reward.code.config import CodeConfig
from reward.code.inside.calls import ENDED, Calls, ProgramFailed
from reward.code.inside.pipe import Pipe
from reward.code.inside.values import Unsendable
from reward.code.reference import Returns, Streams, Written
from reward.code.results import Results, ending
from reward.sandbox import End, Outcome, Running, Sandbox, SandboxConfig
from reward.types import BadReference

REPORT_BYTES = 64 << 20  # of the tests, a line each
ANSWER_BYTES = 8 << 20  # of one returned value that is read here; its objects have to fit into reward.memory_mb


class Trials:
    """Runs programs under one configuration. Every method raises `SandboxBroken`."""

    def __init__(self, config: CodeConfig, sandbox: Sandbox, limits: SandboxConfig):
        self._config = config
        self._sandbox = sandbox
        self._commands = Commands(sandbox)
        self._limits = limits
        self._stop_at_first = config.scoring == "all"

    def streams(self, program: str, streams: Streams) -> Results:
        """Standard input and output."""
        deadline = time.monotonic() + self._config.total_timeout_s
        tally = _Tally(len(streams.inputs))
        for given, expected in zip(streams.inputs, streams.outputs, strict=True):
            tally.add(self._stream(program, given, expected, deadline - time.monotonic()))
            if tally.detail and self._stop_at_first:
                break
        return tally.results()

    def returns(self, program: str, returns: Returns) -> Results:
        """Calls of a function. Raises `BadReference` for arguments that cannot be handed over."""
        tally = _Tally(len(returns.arguments))
        with self._hosted(program, "", "") as (running, ours):
            calls = Calls(
                Pipe(ours.fileno(), ANSWER_BYTES), {}, self._config.test_timeout_s, self._config.total_timeout_s
            )
            try:
                calls.wait_loaded()
                function = _function(calls, returns.entry)
            except (ProgramFailed, Exception) as error:  # noqa: BLE001 -- whatever the program raised
                return Results(0, tally.total, f"the program does not load: {self._reason(error, running)}")
            for arguments, expected in zip(returns.arguments, returns.outputs, strict=True):
                try:
                    calls.begin_test()
                    actual = calls.ask("call", function, tuple(arguments), {})
                    tally.add(
                        "" if self._is_right(actual, expected, returns.wrapped) else "another value than expected"
                    )
                except Unsendable as error:
                    raise BadReference(str(error)) from error
                except (ProgramFailed, Exception) as error:  # noqa: BLE001 -- whatever the program raised
                    tally.add(self._reason(error, running))
                if tally.detail and self._stop_at_first:
                    break
        return tally.results()

    def written(self, program: str, prelude: str, written: Written) -> Results:
        """Tests in Python. `prelude` is what runs before the program in its module; the tests have their own.

        Raises `BadReference` for tests that cannot be run, and `RuntimeError` where they do not start.
        """
        began = time.monotonic()
        job = {
            "prelude": written.prelude,
            "setup": written.setup,
            "tests": written.tests,
            "entry": written.entry,
            "style": written.style,
            "stop_at_first": self._stop_at_first,
            "test_timeout_s": self._config.test_timeout_s,
            "total_timeout_s": self._config.total_timeout_s,
        }
        with self._hosted(program, prelude, written.entry_root) as (running, ours):
            limits = self._limits.limits(self._config.total_timeout_s - (time.monotonic() - began))
            command = self._commands.examine(job, ours.fileno())
            with self._sandbox.start(command, replace(limits, output_bytes=REPORT_BYTES)) as tests:
                ours.close()  # so that the program sees the end of its tests
                outcome = tests.wait()
            return self._read(outcome, running)

    def _stream(self, program: str, given: str, expected: str, remaining_s: float) -> str:
        """Why a test failed, "" where it passed."""
        wall_s = min(remaining_s, self._config.test_timeout_s)
        if wall_s <= 0:
            return self._total_limit()
        outcome = self._sandbox.run(self._commands.script(program, given), self._limits.limits(wall_s))
        if outcome.end in (End.WALL_TIME, End.CPU_TIME):
            return self._total_limit() if wall_s == remaining_s else f"time limit of {wall_s:g} s"
        if problem := ending(outcome):
            return problem
        right = same_output(outcome.stdout.decode(errors="replace"), expected, self._config.tolerance)
        return "" if right else "other output than expected"

    def _is_right(self, actual, expected, wrapped: bool) -> bool:
        tolerance = self._config.tolerance
        return same_value(actual, expected, tolerance) or (wrapped and same_value(actual, expected[0], tolerance))

    def _read(self, outcome: Outcome, running: Running) -> Results:
        """What the tests reported. The program had no way to write there."""
        lines = [json.loads(line) for line in outcome.stdout.split(b"\n") if line.endswith(b"}")]
        for line in lines:
            if "bad" in line:
                raise BadReference(line["bad"])
        if not any("known" in line for line in lines):  # the program has no part in this
            raise RuntimeError(f"the tests did not start: {ending(outcome) or 'they ended'}")
        known = next(line["known"] for line in lines if "known" in line)
        started = sum("start" in line for line in lines)
        failures = [line for line in lines if "failed" in line]
        detail = ""
        if failures:
            number, why = failures[0]["failed"], failures[0]["why"]
            detail = _numbered(number, known, self._with_end(why, running))
        if "tests" in lines[-1]:
            return Results(lines[-1]["passed"], lines[-1]["tests"], detail)
        if not failures or not self._stop_at_first:
            limit = self._total_limit() if outcome.end in (End.WALL_TIME, End.CPU_TIME) else ending(outcome)
            detail = detail or _numbered(started, known, limit or "the tests ended")
        return Results(max(0, started - 1 - len(failures)), known, detail)

    def _total_limit(self) -> str:
        return f"total limit of {self._config.total_timeout_s:g} s"

    def _reason(self, error: BaseException, running: Running) -> str:
        if isinstance(error, ProgramFailed):
            return self._with_end(str(error), running)
        return f"{type(error).__name__}: {error}"

    def _with_end(self, why: str, running: Running) -> str:
        """The reason of a failed test, with how the program ended where that is the reason. One that only closed its
        socket runs on to its time limit."""
        if ENDED not in why:
            return why
        outcome = running.wait()
        if outcome.end is End.WALL_TIME:
            return self._total_limit()
        return why.replace(ENDED, f"{ENDED} ({ending(outcome) or 'exit code 0'})", 1)

    @contextmanager
    def _hosted(self, program: str, prelude: str, forget: str) -> Iterator[tuple[Running, socket.socket]]:
        """The program's process, and our end of the socket to it."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                command = self._commands.host(program, prelude, forget, theirs.fileno())
                running = self._sandbox.start(command, self._limits.limits(self._config.total_timeout_s))
            with running:
                yield running, ours


class _Tally:
    def __init__(self, total: int):
        self.total = total
        self.detail = ""
        self._done = 0
        self._passed = 0

    def add(self, problem: str) -> None:
        """One more test; why it failed, "" where it passed."""
        self._done += 1
        self._passed += not problem
        self.detail = self.detail or (_numbered(self._done, self.total, problem) if problem else "")

    def results(self) -> Results:
        return Results(self._passed, self.total, self.detail)


def _numbered(number: int, total: int | None, problem: str) -> str:
    """Number 0 is what is before all tests."""
    if not number:
        return problem
    return f"test {number} of {total}: {problem}" if total else f"test {number}: {problem}"


def _function(calls: Calls, entry: str):
    try:
        return calls.evaluate(entry)
    except NameError:
        return calls.evaluate(f"Solution().{entry}")  # as programs for LeetCode have it
