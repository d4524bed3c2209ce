"""What goes wrong with engines, named by who can do something about it."""


class EngineFailed(RuntimeError):
    """The engine stopped; every request it held is lost. Another one can take its place."""


class RolloutFailed(RuntimeError):
    """Engines died or hung, and more often than `rollout.restarts` allows."""
