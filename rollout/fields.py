"""From the fields of a row to the question and its reference, as a source maps them.

A path names a field, and with dots what is within it: "reward_model.ground_truth", "prompt.0.content". A field that
holds JSON as text is opened where the path goes on.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from rollout.config import SourceConfig
from rollout.sources import DataError, Row

Message = dict[str, str]  # role, content

PROMPT = "{prompt}"
BOXED = r"\boxed"
_PLACEHOLDER = re.compile(r"\{(?:prompt|row\.([^{}]+))\}")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def paths(source: SourceConfig) -> list[str]:
    """Every path of a row that the source asks for."""
    golds = source.gold_field.values() if isinstance(source.gold_field, dict) else [source.gold_field]
    placeholders = (path for path in _PLACEHOLDER.findall(source.template) if path)
    names = [source.source_field] if source.source_field is not None else []
    return [*prompt_paths(source), *golds, *placeholders, *names]


def prompt_paths(source: SourceConfig) -> list[str]:
    """The paths of the question: several are joined with a space."""
    return list(source.prompt_field) if isinstance(source.prompt_field, list) else [source.prompt_field]


def messages_of(row: Row, source: SourceConfig) -> list[Message]:
    """The question as a chat that ends with a message of the user: one message, or the list that the row holds."""
    found = prompt_paths(source)
    value = value_at(row, found[0])
    if len(found) == 1 and isinstance(value, list):
        messages = _chat(row, found[0], value)
    else:
        texts = [_text(row, path, value_at(row, path)) for path in found]
        messages = [{"role": "user", "content": " ".join(texts)}]
    if source.prompt_wrapper is not None:
        messages[-1]["content"] = _unwrapped(row, source.prompt_wrapper, messages[-1]["content"])
    return messages


def gold_of(row: Row, source: SourceConfig) -> Any:
    """The reference: text for a `gold_field` that is a path, an object for one that maps names to paths.

    None for a row without one where the source says to drop those.
    """
    if isinstance(source.gold_field, dict):
        gold = {name: value_at(row, path) for name, path in source.gold_field.items()}
        try:
            json.dumps(gold, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(f"{row.where}: {', '.join(source.gold_field.values())} are not JSON: {error}.") from error
        return gold
    text = _reference(row, str(source.gold_field), source.gold_after)
    if text or source.no_reference == "drop":
        return text or None
    raise DataError(
        f"{row.where}: field {source.gold_field!r} holds no reference; no_reference=drop leaves such rows out."
    )


def source_of(row: Row, source: SourceConfig, name: str) -> str:
    """What figures per source call the row's: the text or number at `source_field`, `name` where there is none."""
    if source.source_field is None:
        return name
    value = value_at(row, source.source_field)
    if isinstance(value, str | int) and str(value):
        return str(value)
    raise DataError(f"{row.where}: field {source.source_field!r} names no source, it holds {value!r}.")


def filled(template: str, question: str, row: Row) -> str:
    """`template` with the question for {prompt} and fields of the row for {row.<path>}."""
    # Not str.format: templates hold braces of their own, as in \\boxed{}. In one pass: questions hold braces too.
    return _PLACEHOLDER.sub(lambda found: _printed(row, found[1]) if found[1] else question, template)


def value_at(row: Row, path: str) -> Any:
    """What stands at `path`. Raises DataError with what there is instead."""
    if path in row.fields:
        return row.fields[path]
    value: Any = row.fields
    parts = path.split(".")
    for depth, part in enumerate(parts):
        within = ".".join(parts[:depth])
        if isinstance(value, str):
            value = _opened(row, path, within, value)
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif depth == 0:
            raise DataError(f"{row.where} has no field {part!r}; its fields are {', '.join(row.fields)}.")
        else:
            raise DataError(f"{row.where} has no field {path!r}; {within} {_content(value)}.")
    return value


def _content(value: Any) -> str:
    if isinstance(value, dict):
        return f"has {', '.join(value)}"
    return f"is a list of {len(value)}" if isinstance(value, list) else f"is {type(value).__name__}"


def _opened(row: Row, path: str, within: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{row.where} has no field {path!r}; {within} is text and not JSON.") from error


def _text(row: Row, path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{row.where}: field {path!r} is not text but {type(value).__name__}.")
    if not value.strip():
        raise DataError(f"{row.where}: field {path!r} is empty.")
    return value


def _chat(row: Row, path: str, value: list[Any]) -> list[Message]:
    messages = []
    for number, message in enumerate(value):
        fields = message if isinstance(message, dict) else {}
        role, content = fields.get("role"), fields.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(f"{row.where}: {path}.{number} is not a chat message with role and content as text.")
        messages.append({"role": role, "content": content})
    if not messages or messages[-1]["role"] != "user":
        raise DataError(f"{row.where}: the chat in field {path!r} does not end with a message of the user.")
    _text(row, f"{path}.{len(value) - 1}.content", messages[-1]["content"])
    return messages


def _unwrapped(row: Row, wrapper: str, text: str) -> str:
    before, _, after = wrapper.partition(PROMPT)
    inner = text.removeprefix(before).removesuffix(after)
    if len(inner) != len(text) - len(before) - len(after) or not inner.strip():
        raise DataError(f"{row.where}: the question is not wrapped as prompt_wrapper says: {text!r:.200}.")
    return inner


def _reference(row: Row, path: str, after: str | None) -> str:
    gold = value_at(row, path)
    if gold is None or gold == "":
        return ""
    if isinstance(gold, float) and math.isfinite(gold):
        gold = f"{gold:.15g}"
    elif isinstance(gold, int) and not isinstance(gold, bool):
        gold = str(gold)
    if not isinstance(gold, str):
        raise DataError(f"{row.where}: field {path!r} is neither text nor a number but {_named(gold)}.")
    if after == BOXED:
        found = _last_boxed(gold)
    else:
        found = gold if after is None or after in gold else None
        found = found.rpartition(after)[2] if found is not None and after is not None else found
    if found is None:
        raise DataError(f"{row.where}: {after!r} is not in field {path!r}.")
    return found.strip()


def _named(value: Any) -> str:
    return str(value) if isinstance(value, float) else type(value).__name__


def _last_boxed(text: str) -> str | None:
    r"""What the last \boxed holds: its braces, or the word that follows where it has none, as in "\boxed 9"."""
    start = text.rfind(BOXED)
    if start < 0:
        return None
    rest = text[start + len(BOXED) :].lstrip()
    if not rest.startswith("{"):
        return re.split(r"[\s$]", rest, maxsplit=1)[0].rstrip(".,")
    depth = 0
    for token in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return rest[1 : token.start()] if token.group() == "}" else None
    return None


def _printed(row: Row, path: str) -> str:
    value = value_at(row, path)
    lines = value if isinstance(value, list) else [value]
    return "\n".join(_lines(row, path, lines))


def _lines(row: Row, path: str, values: list[Any]) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str | int | float):
            raise DataError(f"{row.where}: field {path!r} of the template is not text but {type(value).__name__}.")
        yield str(value)
