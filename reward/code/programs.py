"""What a response's program is: its last fenced block, or the whole of it where that is Python.

Blocks are found line by line, in time linear in the text, by CommonMark's rules: a fence is three backticks or tildes
or more, its end is as long at least, and a block without an end goes on to the end of the text.
"""

import ast
import re
from dataclasses import dataclass

PYTHON = ("python", "py", "python3")
MAX_BARE_CHARACTERS = 200_000  # parsing takes a second for a megabyte, and longer texts without a block are prose

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^`]*)")


@dataclass(frozen=True)
class Block:
    """The content of a fenced block without the indentation of its fence, and the first word after its fence."""

    language: str
    text: str


@dataclass(frozen=True)
class Found:
    """A program in a response.

    rule     python_block | block | bare_program | completion | completed_block
    text     what was found
    is_body  whether it continues the code of the prompt instead of standing by itself
    """

    rule: str
    text: str
    is_body: bool


def find_program(response: str, prelude: str, entry_root: str) -> Found | None:
    """The program, or None where the response has none.

    prelude     code that a completion may continue, "" where there is none
    entry_root  the name that the whole program defines, "" where it need not
    """
    found = blocks(response)
    python = [block for block in found if block.language in PYTHON]
    if found:
        rule, block = ("python_block", python[-1]) if python else ("block", found[-1])
        if _continues(prelude, block.text, entry_root):
            return Found("completed_block", block.text, is_body=True)
        return Found(rule, block.text, is_body=False)
    if len(response) > MAX_BARE_CHARACTERS:
        return None
    if _continues(prelude, response, entry_root):
        return Found("completion", response, is_body=True)
    tree = parsed(response)
    if tree is None or all(_says_nothing(statement) for statement in tree.body):
        return None
    return Found("bare_program", response, is_body=False)


def blocks(text: str) -> list[Block]:
    """All fenced blocks, in order."""
    found: list[Block] = []
    opened = None
    lines: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line.rstrip())
        if opened is None:
            if fence is not None:
                opened, lines = fence, []
        elif fence is not None and not fence.group(3).strip() and fence.group(2).startswith(opened.group(2)):
            found.append(_block(opened, lines))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        found.append(_block(opened, lines))
    return [block for block in found if block.text.strip()]


def parsed(text: str) -> ast.Module | None:
    """The tree of a text that is Python, None for others. Nothing of it is run."""
    try:
        tree = ast.parse(text)
        compile(tree, "program", "exec", dont_inherit=True)  # finds a `return` outside of a function
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two are the parser's word for "too deep"
        return None
    return tree


def _block(opened: re.Match, lines: list[str]) -> Block:
    indent = opened.group(1)
    language = opened.group(3).strip().partition(" ")[0].strip("{}.").lower()
    return Block(language, "\n".join(line.removeprefix(indent) for line in lines) + "\n")


def _continues(prelude: str, text: str, entry_root: str) -> bool:
    """Whether a text is the body of the last function of the prelude: no program by itself, but one after it."""
    if not prelude or not entry_root or len(text) > MAX_BARE_CHARACTERS or re.search(rf"\b{entry_root}\b\s*=", text):
        return False
    if not text[:1].isspace() and text.strip():
        return False  # a body is indented
    return parsed(text) is None and parsed(joined(prelude, text)) is not None


def joined(prelude: str, body: str) -> str:
    """A prompt's code and the body that continues it."""
    return prelude.rstrip() + "\n" + body.lstrip("\n")


def _says_nothing(statement: ast.stmt) -> bool:
    """Names and values alone: one word of prose is such a program."""
    return isinstance(statement, ast.Expr) and not any(isinstance(node, ast.Call) for node in ast.walk(statement))
