"""Sections of the configuration that may be off: fields of type `X | None`."""

from types import NoneType, UnionType
from typing import Any, get_args, get_origin


def without_none(kind: Any) -> Any:
    """The X of `X | None`; any other type as it is."""
    members = [member for member in get_args(kind) if member is not NoneType]
    return members[0] if get_origin(kind) is UnionType and len(members) == 1 else kind
