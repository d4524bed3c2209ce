"""The tests of a task as data sets write them, by the keys of the reference, and what they are here."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reward.types import BadReference

SHAPES = (
    "{test, entry_point, prompt?}, {test_list, test_imports?}, {tests, setup?}, {pytest}, {inputs, outputs} or "
    "{fn_name, inputs, outputs}"
)

_ENTRY = re.compile(r"[A-Za-z_]\w*(\(\))?(\.[A-Za-z_]\w*(\(\))?)*")


@dataclass(frozen=True)
class Written:
    """Tests in Python.

    prelude  code that the task gives, for program and tests alike: a prompt, up to the function to write
    setup    what stands before the tests
    tests    texts; each stands at the top of a module, after the ones before it
    entry    expression of what `check(candidate)` of the tests gets, "" where the tests call the program by name
    style    module | pytest
    """

    prelude: str
    setup: str
    tests: tuple[str, ...]
    entry: str
    style: str

    @property
    def entry_root(self) -> str:
        return self.entry.partition("(")[0].partition(".")[0]


@dataclass(frozen=True)
class Streams:
    """What a program reads from standard input, and what it then has to write to standard output."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Returns:
    """Arguments of a function, and what it then has to return, JSON values.

    entry     the function, or the method of a class without arguments (`Solution().two_sum`)
    wrapped   whether every output is a list of one, which may stand for its item, as some sets write it
    """

    entry: str
    arguments: tuple[list[Any], ...]
    outputs: tuple[Any, ...]
    wrapped: bool


Reference = Written | Streams | Returns


def read_reference(gold: Any) -> Reference:
    """Raises `BadReference`."""
    if not isinstance(gold, Mapping):
        raise BadReference(f"gold is {SHAPES} for the verifier code, got {type(gold).__name__}")
    keys = gold.keys()
    if "pytest" in keys:
        return Written("", "", (_text(gold, "pytest"),), "", "pytest")
    if {"test", "entry_point"} <= keys:
        prelude = _text(gold, "prompt") if gold.get("prompt") is not None else ""
        return Written(prelude, "", (_text(gold, "test"),), _entry(gold, "entry_point"), "module")
    if "test_list" in keys:
        return Written("", _lines(gold, "test_imports"), _texts(gold, "test_list"), "", "module")
    if "tests" in keys:
        return Written("", _lines(gold, "setup"), _texts(gold, "tests"), "", "module")
    if {"inputs", "outputs"} <= keys:
        inputs, outputs = _list(gold, "inputs"), _list(gold, "outputs")
        if not inputs or len(inputs) != len(outputs):
            raise BadReference(f"gold has {len(inputs)} inputs and {len(outputs)} outputs; they belong together")
        if gold.get("fn_name"):
            return _returns(_entry(gold, "fn_name"), inputs, outputs)
        return Streams(
            tuple(_stream(item, "inputs") for item in inputs), tuple(_stream(item, "outputs") for item in outputs)
        )
    raise BadReference(
        f"gold is {SHAPES} for the verifier code, and has the keys {', '.join(map(str, keys)) or 'none'}"
    )


def _returns(entry: str, inputs: list[Any], outputs: list[Any]) -> Returns:
    arguments, values = [], []
    for i, (given, output) in enumerate(zip(inputs, outputs, strict=True)):
        if isinstance(given, str):  # LiveCodeBench: a JSON value a line, and the output as JSON text
            try:
                given = [json.loads(line) for line in given.split("\n") if line.strip()]
                output = json.loads(output) if isinstance(output, str) else output
            except (ValueError, RecursionError) as error:
                raise BadReference(f"gold.inputs[{i}] or its output is no JSON: {error}") from error
        if not isinstance(given, list):
            raise BadReference(f"gold.inputs[{i}] is a list of arguments, got {type(given).__name__}")
        arguments.append(given)
        values.append(output)
    wrapped = all(isinstance(value, list) and len(value) == 1 for value in values)
    return Returns(entry, tuple(arguments), tuple(values), wrapped)


def _entry(gold: Mapping, key: str) -> str:
    entry = _text(gold, key).strip()
    if not _ENTRY.fullmatch(entry):
        raise BadReference(f"gold.{key} is a name, or such as Solution().name, got {entry[:80]!r}")
    return entry


def _text(gold: Mapping, key: str) -> str:
    if not isinstance(gold[key], str) or not gold[key].strip():
        raise BadReference(f"gold.{key} is a text with something in it, got {_seen(gold[key])}")
    return gold[key]


def _texts(gold: Mapping, key: str) -> tuple[str, ...]:
    value = gold[key]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise BadReference(f"gold.{key} is a text or a list of texts, got {_seen(value)}")
    return tuple(texts)


def _lines(gold: Mapping, key: str) -> str:
    value = gold.get(key)
    lines = [value] if isinstance(value, str) else value or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise BadReference(f"gold.{key} is a text or a list of texts, got {_seen(value)}")
    return "\n".join(lines)


def _list(gold: Mapping, key: str) -> list[Any]:
    if not isinstance(gold[key], list):
        raise BadReference(f"gold.{key} is a list, got {_seen(gold[key])}")
    return gold[key]


def _stream(item: Any, key: str) -> str:
    lines = item if isinstance(item, list) else [item]
    if not all(isinstance(line, str) for line in lines):
        raise BadReference(f"gold.{key} holds texts, or lists of lines, got {_seen(item)}")
    return "\n".join(lines)


def _seen(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
