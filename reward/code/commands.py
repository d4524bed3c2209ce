"""Commands for the sandbox: our scripts there, with what they need beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward.sandbox import Program, Sandbox

FOLDER = "reward/code/inside"  # of the scripts in the scratch folder, so that they import each other as they do here
HOST = ("pipe", "values")
EXAMINE = ("calls", "instrument", "pipe", "small_pytest", "values")

_INSIDE = Path(__file__).parent / "inside"
_TEXTS = {path.stem: path.read_bytes() for path in _INSIDE.glob("*.py")}


class Commands:
    """`Program`s of one sandbox."""

    def __init__(self, sandbox: Sandbox):
        self._sandbox = sandbox

    def script(self, program: str, stdin: str) -> Program:
        """`program` as a script of its own."""
        settings = json.dumps({"paths": self._paths()})
        files = {"script.py": _TEXTS["script"], "program.py": encoded(program)}
        return Program(self._sandbox.python_argv("script.py", settings), files, encoded(stdin))

    def host(self, program: str, prelude: str, forget: str, descriptor: int) -> Program:
        """`program` as a module that answers calls; see `inside/host.py`."""
        settings = {"descriptor": descriptor, "prelude": bool(prelude), "forget": forget, "paths": self._paths()}
        files = {"program.py": encoded(program), "prelude.py": encoded(prelude), **_scripts("host", HOST)}
        argv = self._sandbox.python_argv("host.py", json.dumps(settings))
        return Program(argv, files, pass_fds=(descriptor,))

    def examine(self, job: Mapping[str, Any], descriptor: int) -> Program:
        """Tests in Python; see `inside/examine.py`."""
        job = {**job, "descriptor": descriptor, "paths": self._paths()}
        argv = self._sandbox.python_argv("examine.py")
        return Program(argv, _scripts("examine", EXAMINE), json.dumps(job).encode(), pass_fds=(descriptor,))

    def _paths(self) -> list[str]:
        return list(self._sandbox.package_paths)


def encoded(text: str) -> bytes:
    """UTF-8; what it does not have, such as half a surrogate pair of a cut response, becomes a question mark."""
    return text.encode(errors="replace")


def _scripts(main: str, others: tuple[str, ...]) -> dict[str, bytes]:
    return {f"{main}.py": _TEXTS[main], **{f"{FOLDER}/{name}.py": _TEXTS[name] for name in others}}
