"""What goes wrong with engines, named by who can do something about it."""


class EngineFailed(RuntimeError):
    """The engine stopped; every request it held is lost. Another one can take its place."""


class NoRoom(RuntimeError):
    """An engine that slept did not get the memory of its GPU back. Another one would not get it either."""


class CalledOff(RuntimeError):
    """The response is not wanted any more, because another engine has drawn it."""


class RolloutFailed(RuntimeError):
    """Engines died or hung, and more often than `rollout.restarts` allows."""


class NoSignal(RuntimeError):
    """The filter drops groups, and leaves too few to train on."""


class PromptsExhausted(RuntimeError):
    """There are no more prompts, and a batch is not full."""


class NoProgress(RuntimeError):
    """A wait for engines or verdicts has lasted too long."""
