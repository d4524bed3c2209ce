"""Verdicts on programs: shapes of tests, styles of responses, limits, parts of a score, what is whose fault."""

import pytest

from reward.types import BadReference, VerificationRequest

PROMPT = 'from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    """Their sum."""\n'
TEST = "def check(candidate):\n    assert candidate([]) == 0\n    assert candidate([1, 2]) == 3\n"
HUMANEVAL = {"prompt": PROMPT, "test": TEST, "entry_point": "total"}
HELPERS = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

def list_node(values):
    head = None
    for value in reversed(values):
        head = ListNode(value, head)
    return head

def is_same_list(p, q):
    while p and q and p.val == q.val:
        p, q = p.next, q.next
    return p is None and q is None
"""
LEETCODE = {
    "prompt": HELPERS,
    "test": "def check(candidate):\n"
    "    assert is_same_list(candidate(head=list_node([1, 2, 3])), list_node([3, 2, 1]))\n",
    "entry_point": "Solution().reverse",
}
REVERSE = """class Solution:
    def reverse(self, head):
        before = None
        while head:
            head.next, before, head = before, head, head.next
        return before
"""
STACK = """class Empty(LookupError): pass
class Stack(list):
    push = list.append
    def mean(self): return 0.3
"""


def judge(verifier, response, gold, prompt=""):
    return verifier(VerificationRequest("code", prompt, response, gold, {}))


@pytest.mark.parametrize(
    ("response", "score", "rule"),
    [
        ("```python\ndef total(numbers):\n    return sum(numbers)\n```", 1.0, "python_block"),
        ("def total(numbers: List[int]) -> int:\n    return sum(numbers)\n", 1.0, "bare_program"),
        ("    return sum(numbers)\n", 1.0, "completion"),
        ("    return len(numbers)\n", 0.0, "completion"),
        ("```python\n    return sum(numbers)\n```", 1.0, "completed_block"),
        ("```python\ndef sum_of(numbers):\n    return sum(numbers)\n```", 0.0, "python_block"),
    ],
)
def test_styles_of_responses(verifier, response, score, rule):
    judgement = judge(verifier, response, HUMANEVAL)
    assert (judgement.score, judgement.rule) == (score, rule)
    assert judgement.answer.strip() in response


def test_the_prompt_of_the_request_stands_in_for_that_of_the_reference(verifier):
    gold = {"test": TEST, "entry_point": "total"}
    assert judge(verifier, "    return sum(numbers)\n", gold, PROMPT).score == 1.0
    assert judge(verifier, "```\ndef total(n): return sum(n)\n```", gold, "Write total.").score == 1.0


def test_no_program(verifier):
    judgement = judge(verifier, "I do not know.", HUMANEVAL)
    assert (judgement.score, judgement.answer, judgement.rule) == (0.0, None, "")
    assert judgement.detail == "no program in the response"


@pytest.mark.parametrize(
    ("gold", "program", "wrong"),
    [
        (LEETCODE, REVERSE, REVERSE.replace("return before", "return head")),
        (
            # MBPP 367: the class is the program's, and its objects stay there.
            {
                "setup": "root = Node(1)\nroot.left = Node(2)",
                "tests": ["assert count(root) == 2", "assert root.left.v == 2"],
            },
            "class Node:\n    left = None\n    def __init__(self, v): self.v = v\n"
            "def count(n): return 1 + count(n.left) if n else 0\n",
            "class Node:\n    left = None\n    def __init__(self, v): self.v = v\ndef count(n): return 1\n",
        ),
        (
            # MBPP 126: a name that is built in, under test because the tests assert on nothing else.
            {"test_imports": [], "test_list": ["assert sum(10, 15) == 6"]},
            "def sum(a, b): return 6\n",
            "def sum(a, b): return 7\n",
        ),
        (
            {"tests": "import sys\nfor i in range(3):\n    assert f(i) == (i, [i]) and f(i) != sys.maxsize\n"},
            "def f(i): return i, [i]\n",
            "def f(i): return [i, [i]]\n",
        ),
        (
            {
                "pytest": "import pytest\nfrom solution import Stack, Empty\n\n"
                "@pytest.mark.parametrize(('n', 'last'), [(1, 0), (3, 2)])\ndef test_last(n, last):\n"
                "    stack = Stack()\n    for i in range(n):\n        stack.push(i)\n"
                "    assert len(stack) == n\n    assert stack.pop() == last\n\n"
                "class TestEmpty:\n    def test_pop(self):\n        with pytest.raises(Empty, match='nothing'):\n"
                "            Stack().pop()\n\ndef test_mean():\n    assert Stack().mean() == pytest.approx(0.1 + 0.2)\n"
            },
            STACK
            + "    def pop(self):\n        if not self: raise Empty('nothing in it')\n        return list.pop(self)\n",
            STACK,
        ),
        (
            {"fn_name": "f", "inputs": [[[1, 2]], [[3]]], "outputs": [{"1": 1, "2": 1}, {"3": 1}]},
            "import collections\ndef f(x): return collections.Counter(x)\n",
            "def f(x): return {1: 1, 2: 1}\n",
        ),
        (
            {"fn_name": "f", "inputs": [[1], [2]], "outputs": [[1], [4]]},
            "class Solution:\n    def f(self, x): return x * x\n",
            "class Solution:\n    def f(self, x): return x\n",
        ),
        (
            {"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7", ""]]},
            "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nexit()\n",
            "print(3)\n",
        ),
    ],
    ids=["records", "objects", "built_in", "loop", "pytest", "call", "method", "streams"],
)
def test_shapes_of_tests(verifier, gold, program, wrong):
    right = judge(verifier, f"```python\n{program}\n```", gold)
    assert (right.score, right.detail) == (1.0, "")
    missed = judge(verifier, f"```python\n{wrong}\n```", gold)
    assert missed.score == 0.0
    assert missed.detail


@pytest.mark.parametrize(
    ("program", "score", "detail"),
    [
        ("def f(n): return n * n", 1.0, ""),
        ("def f(n): return n * n if n < 3 else 0", 0.75, "test 4 of 4: AssertionError in assert f(3) == 9"),
        ("def f(n): return n * n if n != 2 else 1 / 0", 0.75, "test 3 of 4: ZeroDivisionError: division by zero in "),
        # What follows a test that hung, or ended the program, has failed too.
        (
            "def f(n):\n    while n == 1: pass\n    return n * n",
            0.25,
            "test 2 of 4: time limit of 1.5 s in assert f(1)",
        ),
        ("import os\ndef f(n): return n * n if n < 2 else os._exit(3)", 0.5, "test 3 of 4: the program has ended"),
        ("def g(n): return n * n", 0.0, "test 1 of 4: NameError: name 'f' is not defined in "),
        ("def f(n: return", 0.0, "the program does not load: SyntaxError"),
        ("1 / 0", 0.0, "the program does not load: ZeroDivisionError"),
    ],
)
def test_shares_of_assertions(sharing, program, score, detail):
    gold = {"test_list": [f"assert f({n}) == {n * n}" for n in range(4)]}
    judgement = judge(sharing, f"```python\n{program}\n```", gold)
    assert judgement.score == score
    assert judgement.detail.startswith(detail)
    assert bool(judgement.detail) == bool(detail)


def test_shares_of_streams_and_calls(sharing):
    streams = {"inputs": ["1", "2", "3", "4"], "outputs": ["1", "4", "9", "16"]}
    program = "n = int(input())\nwhile n == 2: pass\nprint(n * n)\n"
    judgement = judge(sharing, program, streams)
    assert (judgement.score, judgement.detail) == (0.75, "test 2 of 4: time limit of 1.5 s")
    calls = {"fn_name": "f", "inputs": [[1], [2], [3], [4]], "outputs": [1, 4, 9, 16]}
    judgement = judge(sharing, "def f(n): return n * n if n != 3 else None\n", calls)
    assert (judgement.score, judgement.detail) == (0.75, "test 3 of 4: another value than expected")


def test_the_total_limit(verifier):
    calls = {"fn_name": "f", "inputs": [[0]] * 20, "outputs": [0] * 20}
    judgement = judge(verifier, "import time\ndef f(n): return time.sleep(1) or n\n", calls)
    assert judgement.score == 0.0
    assert judgement.detail.endswith("of 20: total limit of 8 s")


@pytest.mark.parametrize(
    ("gold", "sentence"),
    [
        ({"test_list": ["assert f(1) =="]}, "the tests is no Python"),
        ({"test_list": ["x = 1"]}, "never call the program"),
        ({"pytest": "x = 1\n"}, "no test"),
        ({"pytest": "import pytest\n@pytest.fixture\ndef x(): return 1\ndef test_a(x): pass\n"}, "fixture"),
        ({"test_list": ["import no_such_module\nassert f(1)"]}, "no_such_module"),
        ({"test_list": ["assert f(lambda: 1)"]}, "a value of type function, which cannot cross"),
        (
            {"test": "def check(candidate):\n    assert poly(1) == candidate(1)\n", "entry_point": "f"},
            "the tests name poly",
        ),
        ({"test": "def verify(candidate):\n    assert candidate(1)\n", "entry_point": "f"}, r"no check\(candidate\)"),
        ({"prompt": "Write f.", "test": "def check(c): assert c(1)", "entry_point": "f"}, "gold.prompt is not"),
    ],
)
def test_what_is_the_fault_of_the_tests(verifier, sharing, gold, sentence):
    for each in (verifier, sharing):
        with pytest.raises(BadReference, match=sentence):
            judge(each, "```python\ndef f(n): return n\n```", gold)


@pytest.mark.parametrize("program", ["x = 1", "import os\nos._exit(0)", "def f(n): return undefined", "f = 5"])
def test_a_program_cannot_make_its_zero_a_fault_of_the_tests(verifier, sharing, program):
    golds = (
        {"pytest": "from solution import f\ndef test_f(): assert f(1) == 1\n"},
        {"setup": "start = f(1)", "tests": ["assert start == 1"]},
        {"test": "def check(candidate):\n    x = candidate(1)\n    assert x == 1\n", "entry_point": "f"},
    )
    for gold in golds:
        for each in (verifier, sharing):
            assert judge(each, f"```python\n{program}\n```", gold).score == 0.0


def test_strange_responses(verifier):
    gold = {"test_list": ["assert f() == 1"]}
    for response in (
        "",
        "\x00\x01",
        "x" * 1_000_000,
        "```python\n" + "(" * 100_000 + "\n```",
        "```python\n\ud800\n```",
    ):
        assert judge(verifier, response, gold).score == 0.0
    assert judge(verifier, "```python\n# é \ud800\ndef f(): return 1\n```", gold).score == 1.0
