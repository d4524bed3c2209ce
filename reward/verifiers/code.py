"""Programs, judged by running them on the tests of the task.

gold, by its keys: {"test", "entry_point", "prompt"?} (HumanEval), {"test_list", "test_imports"?} (MBPP), {"tests",
"setup"?} (assertions), {"pytest"} (functions `test_*` that import from `solution` or call the program by name),
{"inputs", "outputs"} (standard input and output) or {"fn_name", "inputs", "outputs"} (calls of a function).

A program that is wrong, slow or crashes has a score; only what is ours or the data's to mend is a failure. Nothing of
the program reaches its tests but data of exact built-in types, so an object that equals everything equals nothing here.

Does not protect from: answers that a weak test lets pass; a program that computes its answer from the arguments of the
tests, which it has to see.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from reward.code.commands import MODULES
from reward.code.config import CodeConfig
from reward.code.programs import find_program, joined, parsed
from reward.code.reference import Returns, Streams, Written, read_reference
from reward.code.results import Results
from reward.code.trials import Trials
from reward.sandbox import Sandbox, SandboxConfig
from reward.types import BadReference, Judgement, VerificationRequest, Verifier


def make(settings: Mapping[str, Any]) -> Verifier:
    """Raises `SandboxUnavailable`."""
    config, limits = CodeConfig(**settings["code"]), SandboxConfig(**settings["sandbox"])
    return CodeVerifier(config, Trials(config, Sandbox(limits, modules=MODULES), limits))


class CodeVerifier:
    def __init__(self, config: CodeConfig, trials: Trials):
        self._config = config
        self._trials = trials

    def __call__(self, request: VerificationRequest) -> Judgement:
        reference = read_reference(request.gold)
        prelude, root = "", ""
        if isinstance(reference, Written) and reference.entry:
            prelude, root = _prelude(reference, request.prompt), reference.entry_root
        found = find_program(request.response, prelude, root)
        if found is None:
            return Judgement(0.0, None, detail="no program in the response")
        program = joined(prelude, found.text) if found.is_body else found.text
        results = self._results(program, "" if found.is_body else prelude, reference, prelude)
        return Judgement(results.score(self._config.scoring), found.text, found.rule, results.detail)

    def _results(self, program: str, before: str, reference: Any, prelude: str) -> Results:
        if isinstance(reference, Streams):
            return self._trials.streams(program, reference)
        if isinstance(reference, Returns):
            return self._trials.returns(program, reference)
        return self._trials.written(program, before, replace(reference, prelude=prelude))


def _prelude(reference: Written, prompt: str) -> str:
    """Code up to the function to write: the reference's prompt, or the prompt itself where that is such code."""
    if reference.prelude:
        prelude = _complete(reference.prelude)
        if prelude is None:
            raise BadReference("gold.prompt is not the beginning of a Python program")
        return prelude
    return (_complete(prompt) if f"def {reference.entry_root}(" in prompt else None) or ""


@lru_cache(maxsize=64)
def _complete(prompt: str) -> str | None:
    """Python, with a body for the last function where it has not even a docstring; None for other texts."""
    for text in (prompt, prompt.rstrip() + "\n    pass\n"):
        if parsed(text) is not None:
            return text
    return None
