"""What a confined program may do with files (Landlock, Linux 5.13; landlock(7))."""

import os

from .kernel import landlock_allow, landlock_enforce, landlock_ruleset, landlock_version

_EXECUTE, _WRITE, _READ, _LIST = 1, 2, 4, 8
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE_CONTROL
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights a version knows; later ones know 16
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract UNIX sockets and signals

LEAST = 3  # version that can refuse truncation
LEAST_AS_SAME_USER = _SCOPES_SINCE  # where no difference of users keeps signals away from the run


def confine_files(readable: list[str], devices: list[str], scratch: str) -> None:
    """Leaves this process reading and executing below `readable`, reading and writing `devices`, and all of `scratch`.

    Paths that do not exist or cannot be reached are passed over. Needs `no_new_privileges`.
    """
    version = landlock_version()
    known = (1 << _RIGHTS.get(version, 16)) - 1
    ruleset = landlock_ruleset(
        files=known,
        network=_TCP if version >= _NETWORK_SINCE else 0,
        scoped=_SCOPES if version >= _SCOPES_SINCE else 0,
    )
    everything = [(path, _EXECUTE | _READ | _LIST) for path in readable]
    everything += [(path, _READ | _WRITE) for path in devices]
    everything += [(scratch, known & ~_DEVICE_CONTROL)]
    for path, rights in everything:
        try:
            descriptor = os.open(path, os.O_PATH)
        except (FileNotFoundError, PermissionError):
            continue
        allowed = rights if os.path.isdir(path) else rights & _ON_FILES
        landlock_allow(ruleset, descriptor, allowed & known)
        os.close(descriptor)
    landlock_enforce(ruleset)
    os.close(ruleset)
