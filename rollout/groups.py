"""A group of responses to one prompt on its way through a `Collector`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollout.stream import Issue
from rollout.types import Prompt, Response


@dataclass
class Group:
    """A group that is being drawn; `found` has the responses so far, by sample."""

    issue: Issue
    prompt: Prompt
    found: dict[int, Response] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """What there is to say about a group.

    payload        passes through to the batch
    dropped        the reason why it is not to be trained on, None where it is
    right, judged  responses
    """

    payload: Any
    dropped: str | None
    right: int
    judged: int


@dataclass(frozen=True)
class Drawn:
    """A group as it waits for its batch."""

    prompt: Prompt
    responses: list[Response]
    payload: Any


Judge = Callable[[Sequence[Prompt], Sequence[Sequence[Response]]], Sequence[Judged]]
