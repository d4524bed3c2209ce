"""From the reference of a prompt to instructions, and from a response to what it follows, strictly and loosely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward.instructions.kinds import KINDS
from reward.types import BadReference

REASONING_START, REASONING_END = "<think>", "</think>"


@dataclass(frozen=True)
class Instruction:
    """An id of `KINDS` and the parameters that its check takes."""

    id: str
    parameters: Mapping[str, Any]

    def followed(self, response: str) -> bool:
        """Whether this text follows it; an empty one follows nothing."""
        return bool(response.strip()) and KINDS[self.id].check(response, **self.parameters)

    def __str__(self) -> str:
        """For example `length_constraints:number_words (num_words 300, relation at least)`."""
        parameters = ", ".join(f"{name} {value if value != '' else '-'}" for name, value in self.parameters.items())
        return f"{self.id} ({parameters[:80]})" if parameters else self.id


def read(gold: Any) -> list[Instruction]:
    """The instructions of `{instruction_id_list: [...], kwargs: [{...}, ...]}`, two lists in parallel.

    A parameter that is null is as if it were not there (tables have a column for each), and null or no object for an
    instruction is one without parameters. Raises `BadReference`.
    """
    if not isinstance(gold, Mapping) or not {"instruction_id_list", "kwargs"} <= gold.keys():
        raise BadReference(
            "gold is an object with instruction_id_list and kwargs for the verifier instructions, "
            f"got {type(gold).__name__}{f' with {sorted(map(str, gold))}' if isinstance(gold, Mapping) else ''}"
        )
    ids, kwargs = gold["instruction_id_list"], gold["kwargs"]
    if not isinstance(ids, list | tuple) or not isinstance(kwargs, list | tuple) or len(ids) != len(kwargs):
        raise BadReference("instruction_id_list and kwargs are not two lists of the same length")
    if not ids:
        raise BadReference("instruction_id_list is empty, so there is nothing to follow")
    return [_instruction(id, given) for id, given in zip(ids, kwargs, strict=True)]


def _instruction(id: Any, given: Any) -> Instruction:
    if not isinstance(id, str) or id not in KINDS:
        raise BadReference(
            f"unknown instruction {id!r:.80}; the verifier instructions knows the {len(KINDS)} kinds of IFEval "
            f"(those of IFBench are others): {', '.join(sorted(KINDS))}"
        )
    if given is not None and not isinstance(given, Mapping):
        raise BadReference(f"the kwargs of {id} are an object, got {type(given).__name__}")
    given = {name: value for name, value in (given or {}).items() if value is not None}
    expected = KINDS[id].parameters
    if given.keys() != expected.keys():
        raise BadReference(
            f"the kwargs of {id} are {', '.join(expected) or 'none'}; got {', '.join(map(str, given)) or 'none'}"
        )
    parameters = {}
    for name, reader in expected.items():
        try:
            parameters[name] = reader(given[name])
        except ValueError as error:
            raise BadReference(f"in the kwargs of {id}, {name} {error}") from error
    if parameters.get("nth_paragraph", 0) > parameters.get("num_paragraphs", 0):
        raise BadReference(f"in the kwargs of {id}, nth_paragraph is greater than num_paragraphs")
    return Instruction(id, parameters)


def without_reasoning(response: str) -> tuple[str, bool]:
    """What a user sees of a reasoning response: the text after the first `</think>`, and whether there was one.

    A response that opens with `<think>` and never closes it shows the user nothing. Without either tag the response is
    returned as it is, to the last space.
    """
    _, end, after = response.partition(REASONING_END)
    if end:
        return after.strip(), True
    if response.lstrip().startswith(REASONING_START):
        return "", True
    return response, False


def variants(response: str) -> Sequence[str]:
    """The eight texts of the loose mode: as it is; without its first line, last line or both; and each of the four
    without asterisks. Equal ones once."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys([*cut, *(text.replace("*", "") for text in cut)]))


def follow(instructions: Sequence[Instruction], response: str) -> tuple[list[bool], list[bool]]:
    """For each instruction, whether the response follows it (strictly), and whether a variant of it does (loosely)."""
    texts = variants(response)
    strict = [instruction.followed(response) for instruction in instructions]
    loose = [
        followed or any(instruction.followed(text) for text in texts[1:])
        for instruction, followed in zip(instructions, strict, strict=True)
    ]
    return strict, loose
