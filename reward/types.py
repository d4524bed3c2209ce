"""What goes into a verifier and what comes out of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class FailureKind(StrEnum):
    """Why a response has no score. A failure says nothing about the response and is never a zero."""

    TIMEOUT = "timeout"
    CRASH = "crash"
    MEMORY = "memory"
    BAD_REFERENCE = "bad_reference"
    ERROR = "error"


class Outcome(StrEnum):
    """The four things a reader wants counted."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    FAILED = "failed"


class BadReference(Exception):
    """Raised by a verifier that cannot read `gold`; the person who prepared the data must act."""


@dataclass(frozen=True)
class VerificationRequest:
    """One response to judge.

    verifier  name in `reward.verifiers.REGISTRY`, or the import path "package.module:callable" of one's own
    gold      the reference in the verifier's own form (JSON values; tuples arrive as lists)
    metadata  whatever the prompt's source attached (JSON values)
    """

    verifier: str
    prompt: str
    response: str
    gold: Any
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Judgement:
    """What a verifier returns: a score in [0, 1], and what it was given for.

    answer   what was read out of the response; None where no answer was found in it
    rule     which extraction rule found the answer ("" where none did)
    detail   one sentence for a person, "" where there is nothing to say
    """

    score: float
    answer: str | None
    rule: str = ""
    detail: str = ""

    def __post_init__(self):
        if self.answer is not None and not isinstance(self.answer, str):
            raise TypeError(f"a judgement's answer is text or None, got {type(self.answer).__name__}")


Verifier = Callable[[VerificationRequest], Judgement]


@dataclass(frozen=True)
class Verdict:
    """A score, or a failure with its kind; exactly one of the two is None.

    score     in [0, 1]
    answer    what was read out of the response; None where no answer was found in it
    rule      which extraction rule found the answer ("" where none did)
    detail    one sentence for a person, "" where there is nothing to say
    seconds   time from the start of execution (not of queueing) to the verdict
    queued_s time before that, since the request was handed over
    """

    score: float | None
    failure: FailureKind | None
    answer: str | None
    rule: str
    detail: str
    seconds: float
    queued_s: float = 0.0  # whoever holds the queue adds it

    def __post_init__(self):
        if (self.score is None) == (self.failure is None):
            raise ValueError("a verdict has either a score or a failure kind")
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a score lies in [0, 1], got {self.score}")

    @classmethod
    def failed(cls, kind: FailureKind, detail: str, seconds: float) -> "Verdict":
        return cls(score=None, failure=kind, answer=None, rule="", detail=detail, seconds=seconds)

    @property
    def outcome(self) -> Outcome:
        """Correct at full score; a response without a readable answer is unparsable; the rest is wrong."""
        if self.failure is not None:
            return Outcome.FAILED
        if self.score == 1.0:
            return Outcome.CORRECT
        return Outcome.WRONG if self.answer is not None else Outcome.UNPARSABLE
