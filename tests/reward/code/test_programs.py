import pytest

from reward.code.programs import blocks, find_program

PRELUDE = 'from typing import List\n\ndef f(n: int) -> int:\n    """Doubles."""\n'


def found(response, prelude="", root=""):
    program = find_program(response, prelude, root)
    return None if program is None else (program.rule, program.text)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("```python\na = 1\n```", ("python_block", "a = 1\n")),
        ("```py\na = 1\n```\n```python\nb = 2\n```\nDone.", ("python_block", "b = 2\n")),
        ("```python\na = 1\n```\nIt prints\n```\n1\n```", ("python_block", "a = 1\n")),
        ("```\na = 1\n```", ("block", "a = 1\n")),
        ("```text\n1\n```\n```\na = 1\n```", ("block", "a = 1\n")),
        ("~~~python\na = '```'\n~~~", ("python_block", "a = '```'\n")),
        ("````python\n```\n````", ("python_block", "```\n")),
        ("1. So:\n   ```python\n   if a:\n       b = 1\n   ```\n", ("python_block", "if a:\n    b = 1\n")),
        ("```python\na = 1", ("python_block", "a = 1\n")),
        ("```python\r\na = 1\r\n```\r\n", ("python_block", "a = 1\r\n")),
        ("```Python title\na = 1\n```", ("python_block", "a = 1\n")),
        ("use `a` and ```b``` so", None),
        ("```python\n```\nprose follows", None),
        ("def f(n):\n    return 2 * n\n", ("bare_program", "def f(n):\n    return 2 * n\n")),
        ("print(1)", ("bare_program", "print(1)")),
        ("answer", None),
        ("42", None),
        ("I do not know.", None),
        ("", None),
        ("return 2", None),
        ("x = '\x00'", None),
        ("(" * 100_000, None),
        ("x = 1\n" * 100_000, None),
    ],
)
def test_what_the_program_is(response, expected):
    assert found(response) == expected


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        ("    return 2 * n\n", "completion"),
        ("\n    return 2 * n\n", "completion"),
        ("```python\n    return 2 * n\n```", "completed_block"),
        ("def f(n):\n    return 2 * n\n", "bare_program"),
        ("    return 2 *\n", None),
    ],
)
def test_a_completion_continues_the_prompt(response, rule):
    program = found(response, PRELUDE, "f")
    assert (program and program[0]) == rule


def test_blocks_take_time_linear_in_the_text():
    assert len(blocks("```\nx\n```\n" * 100_000)) == 100_000
    assert blocks("`" * 1_000_000) == []
    assert blocks("``` " * 250_000) == []
