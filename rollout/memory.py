"""What an engine that shares its GPU with a learner rank holds of its memory, as a state machine."""

from enum import Enum

# vLLM's tags of what wakes up by itself.
WEIGHTS, CACHE = "weights", "kv_cache"
# What an engine does with its weights while it sleeps: the levels of vLLM's `sleep`.
KEPT_IN_HOST_MEMORY, DROPPED = 1, 2


class Held(Enum):
    """What of an engine is in GPU memory.

    EVERYTHING   it is awake
    NOTHING      it sleeps
    ROOM         for weights, whose values are still to come
    ALL_WEIGHTS  of them, and no key-value cache
    """

    EVERYTHING = "is awake"
    NOTHING = "sleeps"
    ROOM = "has room for weights and none in it"
    ALL_WEIGHTS = "has weights and no key-value cache"


class WrongOrder(RuntimeError):
    """An engine was asked for what it cannot do with the memory it holds: a mistake of ours."""


class GpuMemory:
    """Which call may follow which. `check_*` comes before the call to vLLM, the change after it has succeeded."""

    def __init__(self) -> None:
        self.held = Held.EVERYTHING
        self._level = KEPT_IN_HOST_MEMORY

    def check(self, what: str, *allowed: Held) -> None:
        """Raise WrongOrder unless one of `allowed` is held; `what` the engine was asked for."""
        if self.held not in allowed:
            raise WrongOrder(f"an engine that {self.held.value} was asked to {what}")

    def check_awake(self, what: str) -> None:
        """Raise WrongOrder unless the engine is awake: vLLM takes requests meanwhile, and never ends them."""
        self.check(what, Held.EVERYTHING)

    def slept(self, level: int) -> None:
        """Weights and cache have left the GPU."""
        self.held, self._level = Held.NOTHING, level

    def weights_are_back(self) -> None:
        """Their memory is there again, with what was in it unless that had been dropped."""
        self.held = Held.ALL_WEIGHTS if self._level == KEPT_IN_HOST_MEMORY else Held.ROOM

    def weights_arrived(self) -> None:
        """A transfer of weights has ended."""
        if self.held is Held.ROOM:
            self.held = Held.ALL_WEIGHTS

    def cache_is_back(self) -> None:
        """The engine draws again."""
        self.held = Held.EVERYTHING
