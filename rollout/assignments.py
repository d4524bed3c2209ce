"""Which engine is to answer which requests, where one may be drawn by two engines. Pure.

A request is held by at least one engine until its first answer counts; whoever else holds it then is called off, and
still owes an answer that counts for nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rollout.types import GenerationRequest, Key


@dataclass
class _Desk:
    """What an engine has to draw, and what it only has to give up."""

    requests: dict[Key, GenerationRequest] = field(default_factory=dict)
    called_off: set[Key] = field(default_factory=set)


class Assignments:
    """Of `engines` engines."""

    def __init__(self, engines: int):
        self._desks = [_Desk() for _ in range(engines)]

    def __len__(self) -> int:
        """How many engines there are."""
        return len(self._desks)

    def owed(self, engine: int) -> int:
        """How many answers the engine has yet to give."""
        desk = self._desks[engine]
        return len(desk.requests) + len(desk.called_off)

    def wanted(self, engine: int) -> int:
        """How many of them would count."""
        return len(self._desks[engine].requests)

    def owing(self) -> list[int]:
        """The engines that owe answers."""
        return [engine for engine in range(len(self)) if self.owed(engine)]

    def give(self, engine: int, requests: Mapping[Key, GenerationRequest]) -> None:
        """The engine is to draw them too."""
        self._desks[engine].requests |= requests

    def request(self, engine: int, key: Key) -> GenerationRequest | None:
        """What the engine was asked for under `key`."""
        return self._desks[engine].requests.get(key)

    def give_up(self, engine: int, key: Key) -> bool:
        """Whether the engine's answer under `key` counts for nothing; it then owes it no longer."""
        called_off = self._desks[engine].called_off
        if key not in called_off:
            return False
        called_off.remove(key)
        return True

    def answer(self, engine: int, key: Key) -> list[int]:
        """The engine's answer under `key` counts; the engines that are called off because of it."""
        others = [other for other in self._holders(key) if other != engine]
        for holder in (engine, *others):
            del self._desks[holder].requests[key]
        for other in others:
            self._desks[other].called_off.add(key)
        return others

    def alone(self, key: Key) -> GenerationRequest | None:
        """The request where one engine alone draws it."""
        holders = self._holders(key)
        return self._desks[holders[0]].requests[key] if len(holders) == 1 else None

    def renew(self, engine: int) -> dict[Key, GenerationRequest]:
        """The engine has been replaced: what is to be asked for once more, because no other engine draws it."""
        held = self._desks[engine].requests
        kept = {key: request for key, request in held.items() if self._holders(key) == [engine]}
        self._desks[engine] = _Desk(kept)
        return kept

    def _holders(self, key: Key) -> list[int]:
        return [engine for engine, desk in enumerate(self._desks) if key in desk.requests]
