import ast
import contextlib
import operator
import random
import time
from fractions import Fraction

import pytest

from reward.verifiers.arithmetic import NotArithmetic, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("7-3-2", 2),
        ("8/4/2", 1),
        ("1/3*3", 1),
        ("1/3", Fraction(1, 3)),
        ("-2--3", 1),
        ("2*-3", -6),
        ("-(2+3)", -5),
        ("+4", 4),
        ("((((7))))", 7),
        (" 1 +\n2\t", 3),
        ("007+1", 8),
        ("3 \u00d7 4 \u2212 2", 10),
        ("6 \u00f7 4", Fraction(3, 2)),
        (r"\left(1 + 2\right) \times 3 \cdot 2", 18),
        ("[1+2]*3", 9),
    ],
)
def test_values_by_hand(text, value):
    assert parse(text).value() == value


def test_against_the_grammar_of_python_on_random_expressions():
    """The tree is Python's, the arithmetic exact."""
    apply = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
    draw = random.Random(0)

    def expression(depth):
        if depth == 0 or draw.random() < 0.2:
            return str(draw.randint(0, 99))
        form = draw.choice(["({}){}({})", "{}{}{}", "-{}{}{}", "({}{}{})"])
        return form.format(expression(depth - 1), draw.choice("+-*/"), expression(depth - 1))

    def value(node):
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        return apply[type(node.op)](value(node.left), value(node.right))

    compared = 0
    for _ in range(500):
        text = expression(4)
        try:
            expected = value(ast.parse(text, mode="eval").body)
        except ZeroDivisionError:
            with pytest.raises(ZeroDivisionError):
                parse(text).value()
            continue
        compared += 1
        assert parse(text).value() == expected, text
    assert compared > 300


REFUSED = ("", " ", "()", "(", ")", ")1(", "1+", "*2", "2(3)", "(2)3", "1 2", "2**3", "2//3", "2^3", "1.5", "1,000")
NO_DIGITS = ("\u0663+1", "\u00bd", "\uff11+1", "\u00b2", "\x00", "\ud800")  # Unicode has more digits than ten


@pytest.mark.parametrize("text", [*REFUSED, *NO_DIGITS, "1e3", "x", "sqrt(4)", "4!", "0x10", "1_0", "1=1", "exit()"])
def test_anything_else_is_refused(text):
    with pytest.raises(NotArithmetic):
        parse(text)


def test_numbers_are_all_that_stand_there():
    assert parse("1+(2-1)*30").numbers == [1, 2, 1, 30]


@pytest.mark.parametrize(
    "text",
    ["(" * 10**6, "-" * 10**6, "1+" * 500_000, "(" * 500_000 + "1" + ")" * 500_000, "1" * 10**6, "\\" * 10**6],
    ids=["open", "signs", "unfinished", "nested", "digits", "backslashes"],
)
def test_a_megabyte_is_read_in_linear_time(text):
    began = time.process_time()
    with contextlib.suppress(NotArithmetic):
        assert parse(text).numbers == [1]
    assert time.process_time() - began < 10
