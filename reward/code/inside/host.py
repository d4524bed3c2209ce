"""Runs a program's module and answers questions about what it defines, until the far end closes.

    reward.code.inside.host JSON-of-{descriptor, prelude, forget, paths}

In its working folder lie `program.py`, and `prelude.py` where `prelude` says so: code that runs before it in the same
module, of which the name `forget` is taken away again. Nothing in this process decides anything, so a program may do
here what it likes: all that leaves is data, and what is right is known elsewhere.
"""

import builtins
import json
import os
import sys
import types

from reward.code.inside.pipe import Gone, Pipe, TooMuch
from reward.code.inside.values import Values

MAX_TEXT = 500  # characters of an exception's text


class _Handles:
    """Objects that have been named to the far end; the same object keeps its number."""

    def __init__(self):
        self.objects = []
        self._numbers = {}

    def wrap(self, value):
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return self._numbers[id(value)]

    def unwrap(self, number):
        return self.objects[number]


class _Records(dict):
    """The classes of some names, as the module has them at the moment."""

    def __init__(self, module):
        super().__init__()
        self.names = []
        self._module = module

    def items(self):
        return [(name, getattr(self._module, name, None)) for name in self.names]

    def __getitem__(self, name):
        return getattr(self._module, name)


def load(module, settings):
    if settings["prelude"]:
        run(module, "prelude.py")
        vars(module).pop(settings["forget"], None)
    run(module, "program.py")


def run(module, name):
    with open(name, "rb") as file:
        code = compile(file.read(), name, "exec", dont_inherit=True)
    exec(code, vars(module))


def answer(module, question, *arguments):
    target, rest = arguments[0], arguments[1:]
    if question == "evaluate":
        return eval(target, vars(module))
    if question == "call":
        return target(*rest[0], **rest[1])
    if question == "getattr":
        return getattr(target, *rest)
    if question == "setattr":
        return setattr(target, *rest)
    if question == "len":
        return len(target)
    if question == "iter":
        return iter(target)
    if question == "next":
        return next(target)
    if question == "getitem":
        return target[rest[0]]
    if question == "setitem":
        target[rest[0]] = rest[1]
        return None
    if question == "delitem":
        del target[rest[0]]
        return None
    if question == "str":
        return str(target)
    if question == "bases":
        return [base.__name__ for base in target.__mro__] if isinstance(target, type) else None
    raise ValueError(f"no such question: {question}")


def reply_to(values, compute):
    """What `compute` returns or raises, a message."""
    try:
        return values.encode(compute())
    except BaseException as error:  # noqa: BLE001 -- the program's, SystemExit among them; the tests decide
        return {"raised": [kind.__name__ for kind in type(error).__mro__], "text": described(error)}


def described(error):
    try:
        return str(error)[:MAX_TEXT]
    except BaseException:  # noqa: BLE001 -- the program's own __str__
        return ""


def serve(settings):
    pipe = Pipe(settings["descriptor"])
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # which Python has by `site`, and this one runs without
    sys.path += settings["paths"]
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses and typing look a class's module up there
    handles = _Handles()
    records = _Records(module)
    values = Values(records, handles.wrap, handles.unwrap)

    def answer_to(message):
        question = values.decode(message)
        if question[0] == "records":
            records.names = question[1]
            return None
        return answer(module, *question)

    try:
        pipe.send("started", None)
        pipe.send(reply_to(values, lambda: load(module, settings)), None)
        while True:
            message = pipe.receive(None)
            reply = reply_to(values, lambda message=message: answer_to(message))
            try:
                pipe.send(reply, None)
            except TooMuch:
                pipe.send({"raised": ["OverflowError"], "text": "the value is longer than a message may be"}, None)
    except Gone:
        pass


def main():
    try:
        serve(json.loads(sys.argv[1]))
    finally:
        os._exit(0)  # whatever threads or exit handlers the program has
