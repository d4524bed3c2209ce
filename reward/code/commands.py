"""Commands for the sandbox: our scripts there, with what they need beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward.sandbox import Program, Sandbox

HOST, EXAMINE = MODULES = ("reward.code.inside.host", "reward.code.inside.examine")

_SCRIPT = (Path(__file__).parent / "inside" / "script.py").read_bytes()


class Commands:
    """`Program`s of one sandbox, which has loaded `MODULES`."""

    def __init__(self, sandbox: Sandbox):
        self._sandbox = sandbox

    def script(self, program: str, stdin: str) -> Program:
        """`program` as a script of its own."""
        settings = json.dumps({"paths": self._paths()})
        files = {"script.py": _SCRIPT, "program.py": encoded(program)}
        return Program(self._sandbox.python_argv("script.py", settings), files, encoded(stdin))

    def host(self, program: str, prelude: str, forget: str, descriptor: int) -> Program:
        """`program` as a module that answers calls; see `inside/host.py`."""
        settings = {"descriptor": descriptor, "prelude": bool(prelude), "forget": forget, "paths": self._paths()}
        files = {"program.py": encoded(program), "prelude.py": encoded(prelude)}
        return Program((HOST, json.dumps(settings)), files, pass_fds=(descriptor,), module=HOST)

    def examine(self, job: Mapping[str, Any], descriptor: int) -> Program:
        """Tests in Python; see `inside/examine.py`."""
        job = {**job, "descriptor": descriptor, "paths": self._paths()}
        return Program((EXAMINE,), stdin=json.dumps(job).encode(), pass_fds=(descriptor,), module=EXAMINE)

    def _paths(self) -> list[str]:
        return list(self._sandbox.package_paths)


def encoded(text: str) -> bytes:
    """UTF-8; what it does not have, such as half a surrogate pair of a cut response, becomes a question mark."""
    return text.encode(errors="replace")
