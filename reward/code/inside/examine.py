"""Runs tests, whose text is to be trusted, on a program that is not and that lives in another process.

    reward.code.inside.examine < JSON of {descriptor, paths, prelude, setup, tests, entry, style, stop_at_first,
    test_timeout_s, total_timeout_s}

The tests come by standard input, so that they are in no file and on no command line. Standard output gets a JSON object
a line: {"known": tests or null}, {"start": number}, {"failed": number, "why": text} (number 0: before any test),
{"bad": sentence} where the tests themselves cannot be run, and at the end {"tests", "passed"}. What the tests print
goes nowhere.
"""

import ast
import builtins
import contextlib
import json
import os
import sys
import types

from reward.code.inside import small_pytest
from reward.code.inside.calls import Calls, ProgramFailed, StandIn
from reward.code.inside.instrument import COUNT, Tests, built_in_under_test, free_names
from reward.code.inside.pipe import Pipe
from reward.code.inside.values import Unsendable

MAX_TEXT = 300  # characters of a reason
PROGRAM_MODULES = ("solution", "program")  # what tests in the style of pytest import the program as


class BadTests(Exception):
    """The tests cannot be run, whatever the program."""


class Enough(BaseException):
    """A test has failed, and no other one matters; not an `Exception`, so that no test swallows it."""


class Examination:
    def __init__(self, job, report):
        self._job = job
        self._report = report
        self._records: dict = {}
        pipe = Pipe(job["descriptor"])
        self._calls = Calls(pipe, self._records, job["test_timeout_s"], job["total_timeout_s"])
        self._module = types.ModuleType("tests")
        self._names = vars(self._module)
        self._started = 0
        self._passed = 0

    def run(self):
        sys.modules["tests"] = self._module
        try:
            self._run()
        except (Unsendable, BadTests) as error:
            self._report({"bad": str(error)})
        except Enough:
            pass

    def _run(self):
        job = self._job
        self._run_prelude(job["prelude"])
        text = "\n".join([job["setup"], *job["tests"]])
        tree = _parse(text, "tests")
        setup = len(_parse(job["setup"], "setup").body)
        free, modules = free_names(text)
        head = ast.Module(tree.body[:setup], [])
        rest = ast.Module(tree.body[setup:], [])
        by_name = None if free or job["entry"] else built_in_under_test(rest)
        tests = Tests(rest, {"check"} if job["entry"] else set())
        known = tests.known if job["style"] == "module" else None
        self._report({"known": known})
        try:
            self._calls.wait_loaded()
        except Exception as error:
            raise self._failed_before(f"the program does not load: {_described(error)}") from error
        except ProgramFailed as error:
            raise self._failed_before(f"the program does not load: {error}") from error
        self._calls.begin_test()
        root = job["entry"].partition("(")[0].partition(".")[0]
        self._names.pop(root, None)  # the unfinished function of a prompt
        self._names[COUNT] = lambda index: _Counted(self, _text(tests.statements[index]))
        if job["style"] == "pytest" or "pytest" in text:
            sys.modules["pytest"] = small_pytest.module()
        try:
            self._calls.ask("records", list(self._records))
            self._bind(free - self._names.keys(), modules - self._names.keys(), root)
            if by_name:
                self._name(by_name)
            self._execute(head)
            self._execute(rest)
            self._run_functions()
        except (Unsendable, BadTests, Enough):
            raise
        except Exception as error:  # noqa: BLE001 -- the tests' or the program's
            self._stopped(_described(error))
        except ProgramFailed as error:
            self._stopped(str(error))
        if not self._started:
            self._started = self._passed = 1  # tests that count as one, and that ended as they should
        if self._passed == self._started and not self._calls.count:
            raise BadTests("the tests never call the program")
        self._report({"tests": max(self._started, known or 0), "passed": self._passed})

    def _run_prelude(self, text):
        """What the tests may use besides themselves: the task's own code, up to the function to write."""
        try:
            exec(compile(text, "prelude", "exec"), self._names)
        except Exception as error:
            raise BadTests(f"the code before the program raises {_described(error)}") from error
        for name, found in self._names.items():
            if isinstance(found, type) and found.__module__ == "tests":
                self._records[name] = found

    def _bind(self, free, modules, root):
        """Gives the tests what they name and do not define."""
        for name in modules:
            self._names[name] = __import__(name)
        if root and (unknown := free - {root}):
            raise BadTests(
                f"the tests name {', '.join(sorted(unknown))}, which neither they nor the code before it define"
            )
        for name in free:
            self._name(name)
        for name in PROGRAM_MODULES:
            sys.modules[name] = _ProgramModule(name, self._evaluated)

    def _name(self, name):
        with contextlib.suppress(NameError):  # the tests that need it will say so
            self._names[name] = self._evaluated(name)

    def _evaluated(self, expression):
        """A value of the program; of an exception class the like, for tests that expect it to be raised."""
        found = self._calls.evaluate(expression)
        bases = self._calls.ask("bases", found) if isinstance(found, StandIn) else None
        if isinstance(bases, list) and "Exception" in bases:
            known = [kind for base in bases if isinstance(kind := getattr(builtins, str(base), None), type)]
            nearest = next((kind for kind in known if issubclass(kind, Exception)), Exception)
            found = self._calls.exceptions[bases[0]] = type(str(bases[0]), (nearest,), {})
        return found

    def _execute(self, tree):
        exec(compile(tree, "tests", "exec"), self._names)

    def _run_functions(self):
        entry = self._job["entry"]
        if entry:
            if not callable(self._names.get("check")):
                raise BadTests("the tests define no check(candidate)")
            self._calls.begin_test()
            try:
                candidate = self._calls.evaluate(entry)
            except Exception as error:
                raise self._failed_before(f"the program has no {entry}: {_described(error)}") from error
            self._names["check"](candidate)
        elif self._job["style"] == "pytest":
            tests = list(small_pytest.collect(self._names))
            if not tests:
                raise BadTests("there is no test* function among the tests")
            for name, test in tests:
                with _Counted(self, name):
                    test()

    def _failed_before(self, why):
        """For what makes every test fail; an exception to raise."""
        self._report({"failed": 0, "why": why})
        return Enough()

    def _stopped(self, why):
        if not self._started and not self._calls.count and not self._calls.troubles:
            raise BadTests(f"the tests cannot be set up: {why}")
        self.begin()
        self.fail("what is between the tests", why)

    def begin(self):
        self._started += 1
        self._report({"start": self._started})
        self._calls.begin_test()

    def succeed(self):
        self._passed += 1
        self._calls.begin_test()

    def fail(self, text, why):
        self._report({"failed": self._started, "why": f"{why} in {text}"[:MAX_TEXT]})
        if self._job["stop_at_first"]:
            raise Enough
        self._calls.begin_test()


class _Counted:
    """Around one test."""

    def __init__(self, examination, text):
        self._examination = examination
        self._text = text

    def __enter__(self):
        self._examination.begin()

    def __exit__(self, kind, error, trace):
        if error is None:
            self._examination.succeed()
        elif isinstance(error, Unsendable | BadTests) or not isinstance(error, Exception | ProgramFailed):
            return False
        else:
            why = str(error) if isinstance(error, ProgramFailed) else _described(error)
            self._examination.fail(self._text, why)
        return True


class _ProgramModule(types.ModuleType):
    def __init__(self, name, evaluated):
        super().__init__(name)
        self._evaluated = evaluated
        self.__path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._evaluated(name)
        except NameError as error:
            raise AttributeError(name) from error


def _parse(text, name):
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadTests(f"the {name} is no Python: {_described(error)}") from error


def _text(statement):
    try:
        return ast.unparse(statement)[:MAX_TEXT]
    except RecursionError:
        return "a test"


def _described(error):
    text = str(error)
    return f"{type(error).__name__}: {text[:MAX_TEXT]}" if text else type(error).__name__


def main():
    report = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    job = json.load(sys.stdin)
    sys.path += job["paths"]
    Examination(job, lambda line: os.write(report, json.dumps(line).encode() + b"\n")).run()
