"""Sections of the configuration that may be off: fields of type `X | None`."""

from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints


def without_none(kind: Any) -> Any:
    """The X of `X | None`; any other type as it is."""
    members = [member for member in get_args(kind) if member is not NoneType]
    return members[0] if get_origin(kind) is UnionType and len(members) == 1 else kind


def given_in_part(kind: Any) -> bool:
    """Whether any part of the section `kind` may be left out: every one of its fields may be null."""
    return is_dataclass(kind) and all(without_none(hint) is not hint for hint in get_type_hints(kind).values())
