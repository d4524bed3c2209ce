"""Names of verifiers, and how a name becomes a callable.

A registered name leads to a function that makes the verifier from the settings of the pool, `make(settings)`; an import
path of one's own leads to the verifier itself.

Nothing here imports a verifier: the driver and the Ray workers check names only, and the libraries behind the verifiers
(SymPy and its like) are loaded in the fork server alone.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from reward.types import Verifier

REGISTRY: dict[str, str] = {
    "countdown": "reward.verifiers.countdown:make",
    "instructions": "reward.verifiers.instructions:make",
    "code": "reward.verifiers.code:make",
    "math": "reward.verifiers.math:make",
    "reasoning_gym": "reward.verifiers.reasoning_gym:make",
    "remote": "reward.verifiers.remote:make",
    "think_answer": "reward.verifiers.think_answer:make",
}


class UnknownVerifier(ValueError):
    """A name that is neither registered nor an import path."""


class VerifierImportError(RuntimeError):
    """A verifier whose module or callable cannot be loaded."""


def import_path(name: str) -> str:
    """Of a registered name its "package.module:callable", or the name where it is such. Raises `UnknownVerifier`."""
    if name in REGISTRY:
        return REGISTRY[name]
    module, _, attribute = name.partition(":")
    if attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return name
    raise UnknownVerifier(
        f"unknown verifier {name!r}; known are {', '.join(sorted(REGISTRY))}, "
        f'or the import path of a callable as "package.module:callable"'
    )


def check_names(names: Iterable[str]) -> None:
    """Raises `UnknownVerifier` for the first name that cannot be one."""
    for name in names:
        import_path(name)


def load(name: str, settings: Mapping[str, Any]) -> Verifier:
    """Imports a verifier, and makes it from `RewardConfig.verifier_settings` where it is one of ours.

    Raises `UnknownVerifier`, or `VerifierImportError` with the reason.
    """
    path = import_path(name)
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        verifier = found(settings) if name in REGISTRY else found
    except Exception as error:
        raise VerifierImportError(f"cannot load the verifier {path!r}: {type(error).__name__}: {error}") from error
    if not callable(verifier):
        raise VerifierImportError(f"the verifier {path!r} is not callable")
    return verifier
