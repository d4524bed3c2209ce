"""Calling a program that runs in another process: its functions and objects as stand-ins, plain data as itself.

A stand-in compares by identity alone, and the data that its calls return was rebuilt here: no comparison ever asks the
program. What it raises arrives as a new exception of the nearest class that both sides know.
"""

import builtins
import time

from reward.code.inside.pipe import Gone, Late, TooMuch
from reward.code.inside.values import Malformed, Unsendable, Values

ENDED = "the program has ended"


class ProgramFailed(BaseException):
    """The program answers no more; not an `Exception`, so that no test swallows it. The text says why."""


class ProgramRaised(Exception):
    """An exception of the program that is none of the built-in ones."""


class StandIn:
    """An object of the program. Comparison and hash are those of any object, by identity."""

    def __init__(self, calls, number):
        object.__setattr__(self, "_calls", calls)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):  # copy, numpy and others look for what they may use
            raise AttributeError(name)
        return self._calls.ask("getattr", self, name)

    def __setattr__(self, name, value):
        self._calls.ask("setattr", self, name, value)

    def __call__(self, *args, **kwargs):
        return self._calls.ask("call", self, args, kwargs)

    def __len__(self):
        return self._calls.ask("len", self)

    def __iter__(self):
        return self._calls.ask("iter", self)

    def __next__(self):
        return self._calls.ask("next", self)

    def __getitem__(self, key):
        return self._calls.ask("getitem", self, key)

    def __setitem__(self, key, value):
        self._calls.ask("setitem", self, key, value)

    def __delitem__(self, key):
        self._calls.ask("delitem", self, key)

    def __str__(self):
        return self._calls.ask("str", self)

    def __repr__(self):
        return f"<an object of the program, number {object.__getattribute__(self, '_number')}>"

    def __bool__(self):
        return True


class Calls:
    """Questions to the program at the far end of a pipe.

    records     classes whose instances cross with their attributes, by name
    limit_s     for each test, from `begin_test`
    total_s     for all of them, from now
    count       questions about what the program does
    troubles    answers that were an exception, or none
    exceptions  classes to raise for exceptions of the program besides the built-in ones, by name
    """

    def __init__(self, pipe, records, limit_s, total_s):
        self.count = 0
        self.troubles = 0
        self.exceptions = {}
        self._limit_s = limit_s
        self._total_s = total_s
        self._end = self._deadline = time.monotonic() + total_s
        self._pipe = pipe
        self._failed = None
        self._stand_ins = {}
        self._values = Values(records, self._wrap, self._unwrap)

    def wait_loaded(self):
        """Returns when the program's module has run, within `limit_s` from its start.

        Raises what it raised, and `ProgramFailed`.
        """
        self._receive()
        self.begin_test()
        self._value(self._receive())

    def begin_test(self):
        """From now on answers have `limit_s`."""
        self._deadline = min(time.monotonic() + self._limit_s, self._end)

    def evaluate(self, expression):
        """The value of an expression in the program, which knows its own names."""
        value = self.ask("evaluate", expression)
        self.count += type(value) is not StandIn  # a function by itself shows nothing of the program yet
        return value

    def ask(self, *question):
        """Raises what the program raised, `ProgramFailed`, or `Unsendable` for arguments that cannot cross."""
        self.count += question[0] not in ("records", "bases", "evaluate")
        if self._failed is not None:
            raise ProgramFailed(self._failed)
        message = self._values.encode(question)
        try:
            self._pipe.send(message, self._deadline)
        except Gone:
            self._fail(ENDED)
        except Late:
            self._fail(self._limit())
        except TooMuch as error:
            raise Unsendable("a test hands the program more than a message may hold") from error
        return self._value(self._receive())

    def _receive(self):
        try:
            return self._pipe.receive(self._deadline)
        except Gone:
            self._fail(ENDED)
        except Late:
            self._fail(self._limit())
        except TooMuch:
            self._fail("the program's answer is too long or no answer")

    def _value(self, reply):
        try:
            if "raised" not in reply:
                return self._values.decode(reply)
            names, text = [str(name) for name in reply["raised"]], str(reply["text"])
        except (Malformed, TypeError, KeyError):
            self._fail("the program's answer is no answer")
        raise self._exception(names, text)

    def _exception(self, names, text):
        self.troubles += 1
        for name in names:
            found = self.exceptions.get(name) or getattr(builtins, name, None)
            if isinstance(found, type) and issubclass(found, Exception):
                try:
                    return found(text)
                except TypeError:  # UnicodeDecodeError wants five arguments
                    continue
        return ProgramRaised(f"{names[0] if names else 'an exception'}: {text}")

    def _limit(self):
        if self._deadline == self._end:
            return f"total limit of {self._total_s:g} s"
        return f"time limit of {self._limit_s:g} s"

    def _fail(self, reason):
        self._failed = reason
        self.troubles += 1
        raise ProgramFailed(reason)

    def _wrap(self, value):
        if type(value) is StandIn and object.__getattribute__(value, "_calls") is self:
            return object.__getattribute__(value, "_number")
        raise Unsendable(f"a test hands the program a value of type {type(value).__name__}, which cannot cross")

    def _unwrap(self, number):
        if type(number) is not int:
            raise ValueError("a handle is a number")
        if number not in self._stand_ins:
            self._stand_ins[number] = StandIn(self, number)
        return self._stand_ins[number]
