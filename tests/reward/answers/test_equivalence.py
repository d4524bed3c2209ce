"""Hand-worked pairs of every kind of answer, and the fast paths against math-verify."""

import json
import time
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from reward.answers import expressions, symbolic
from reward.answers.equivalence import (
    Unreadable,
    check_reference,
    equal_symbolically,
    equivalent,
    shortcut,
)
from reward.answers.tidy import tidy
from reward.types import BadReference
from tests.reward.math_settings import LENIENT, PRESETS

MATH500 = Path(__file__).parents[4] / "shared" / "data" / "math500" / "test.jsonl"
PAIRS = [
    ("72", "72", True),
    ("72", "71", False),
    ("0.5", r"\frac{1}{2}", True),
    (r"\frac{1}{2}", r"\dfrac{2}{4}", True),
    (r"\frac{1}{2}", r"\frac12", True),
    (r"\frac{1}{2}", "1/2", True),
    ("0.5", r"\frac{1}{3}", False),
    ("1000", "1,000", True),
    ("1000", "+1,000", True),
    ("14{,}916", "14916", True),
    ("72", "72.0", True),
    ("72", "72.5", False),
    ("72", "$72$", True),
    ("72", r"\$72", True),
    ("50", r"50\%", True),
    ("0.5", r"50\%", True),
    (r"50\%", "0.5", True),
    (r"50\%", "50", True),
    (r"50\%", r"\frac12", True),
    (r"50\%", "5", False),
    ("5", "x = 5", True),
    ("5", "x=6", False),
    ("x=5", "5", True),
    ("x=5", "y=5", False),
    (r"\sqrt{12}", r"2\sqrt{3}", True),
    ("2", r"2\sqrt{3}", False),
    ("x^2+2x+1", "(x+1)^2", True),
    ("x^2+2x+1", "(x+2)^2", False),
    ("(1,2)", "(1,2)", True),
    ("(1,2)", "(2,1)", False),
    ("(1,2)", "(1, 2.0)", True),
    (r"\{1,2\}", r"\{2,1\}", True),
    (r"\{1,2\}", "2,1", True),
    ("1,2", "2, 1", True),
    ("1, 2", r"1 \text{ and } 2", True),
    ("1,2", "1 and 2", True),
    ("1,2", "1,3", False),
    ("1,2", "1,2,3", False),
    (r"\text{Evelyn}", "Evelyn", True),
    (r"\text{Evelyn}", r"\text{evelyn}", True),
    (r"\text{Evelyn}", "Nevely", False),
    (r"\text{Monday}", "Monday.", True),
    (r"\text{Monday}", "Tuesday", False),
    ("(A)", "A", True),
    ("A", "(A)", True),
    ("A", "A.", True),
    ("A", r"\text{A}", True),
    (r"\text{(E)}", "E", True),
    (r"\text{(E)}", "(D)", False),
    ("A", "(A) 5", True),
    ("A", "A. 12", True),
    ("A", "(B) 5", False),
    ("A", "(A) and (C)", False),
    ("B", r"\textbf{(B)}", True),
    ("B", r"\textbf{(B) } 7", True),
    ("B", r"\text{B}", True),
    ("B", r"\text{Bob}", False),
    ("C", "5", False),
    ("[0,1)", "[0,1)", True),
    ("[0,1)", "[0,1]", False),
    ("[0,1)", "(0,1)", False),
    (r"(-\infty, 2] \cup [3, \infty)", r"(-\infty,2]\cup[3,\infty)", True),
    (r"(-\infty, 2] \cup [3, \infty)", r"[3,\infty)\cup(-\infty,2]", True),
    (r"(-\infty, 2] \cup [3, \infty)", r"(-\infty,2)\cup[3,\infty)", False),
    (r"x \in [-2,7]", "[-2,7]", True),
    ("[-2,7]", r"x\in[-2,7]", True),
    (r"(3,\infty)", "x>3", True),
    (r"(3,\infty)", "x<3", False),
    (r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x>2", True),
    (r"x<1 \text{ or } x>2", r"(2,\infty)\cup(-\infty,1)", True),
    (r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x\ge 2", False),
    ("x", "x+.0", True),
    ("12:00", "12:00", True),
    ("12:00", "12:01", False),
    (r"(-\infty,\infty)", r"\mathbb{R}", True),
    (r"\mathbb{R}", r"\text{all real numbers}", True),
    (r"\mathbb{R}", r"x \in (-\infty, \infty)", True),
    (r"\mathbb{R}", r"(0,\infty)", False),
    ("x>3", r"(3,\infty)", True),
    (r"5 \text{ cm}", "5", True),
    ("5", r"5\text{ cm}", True),
    (r"5\text{ cm}", "5 centimeters", True),
    (r"5\text{ cm}", "5 cm", True),
    (r"5\text{ cm}", "5cm", True),
    (r"5\text{ cm}", r"5\text{ m}", False),
    (r"5\text{ cm}^2", "5", True),
    ("5 meters", "5 feet", False),
    (r"18\text{ dollars}", "$18", True),
    (r"312 \text{ dollars}", r"\$312.00", True),
    (r"60^\circ", "60", True),
    (r"60^{\circ}", "60 degrees", True),
    ("60", r"60^\circ", True),
    (r"25 \, \text{km}", "25", True),
    (r"575\text{ students}", "575", True),
    ("9.25", "9.25 m", True),
    (r"\frac{37}{4} m", r"\frac{37}{4} m", True),
    (r"\frac{37}{4} m", "9.25m", True),
    (r"\frac{37}{4} m", "9.25n", False),
    (r"3\frac{1}{2}", "3.5", True),
    (r"3\frac{1}{2}", r"\frac{7}{2}", True),
    (r"3\frac12", "3 1/2", True),
    (r"6\frac15", r"\frac{31}{5}", True),
    ("3 1/2", "31/2", False),
    (r"1.5 \times 10^{3}", "1500", True),
    (r"1.5\times10^3", "1.5e3", True),
    ("4.5e33", r"4.5 \times 10^{33}", True),
    ("4.5e33", r"4.5 \cdot 10^{33}", True),
    ("4.5e33", r"4.6 \times 10^{33}", False),
    ("6.6e-34", "0", False),
    ("1e-8", "2e-8", False),
    ("1e-8", "10^{-8}", True),
    (r"\frac{1}{3}", "0.333333", True),
    (r"\frac{1}{3}", "0.33", False),
    (r"\sqrt{2}", "1.4142136", True),
    (r"\sqrt{2}", "1.414", False),
    (r"\pi", "3.14159265", True),
    (r"\pi", "22/7", False),
    (r"\frac{\sqrt{2} + \sqrt{6}}{4}", r"\frac{\sqrt{6}+\sqrt{2}}{4}", True),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
    (r"-\frac{1}{2}", r"\frac{-1}{2}", True),
    (r"-\frac{1}{2}", r"\frac{1}{-2}", True),
    (r"\begin{pmatrix} -4\\-3 \end{pmatrix}", r"\begin{pmatrix}-4 \\ -3\end{pmatrix}", True),
    (r"\begin{pmatrix} -4\\-3 \end{pmatrix}", r"\begin{bmatrix}-4 \\ -3\end{bmatrix}", True),
    (r"\begin{pmatrix} -4\\-3 \end{pmatrix}", r"\begin{pmatrix}-3 \\ -4\end{pmatrix}", False),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}", True),
    ("1,-1", r"\pm 1", True),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt{5}, 1+\sqrt5\}", True),
    ("y = 2x + 3", "2x+3", True),
    ("y = 2x + 3", "y=3+2x", True),
    ("y = 2x + 3", "y=3x+2", False),
    ("11x + 6y + 5z + 86 = 0", "11x+6y+5z=-86", True),
    ("11x + 6y + 5z + 86 = 0", "11x+6y+5z=86", False),
    ("1:1", "2:2", True),
    ("3:5", r"\frac{3}{5}", True),
    ("1200_7", "1200_{7}", True),
    ("1200_7", "1201_7", False),
    ("141_{13}", "141_{13}", True),
    ("-375 + 500i", "500i-375", True),
    ("-375 + 500i", "500i+375", False),
    ("4, -2 + 3i, -2 - 3i", r"-2\pm 3i, 4", True),
    (r"\frac{1}{2004!}", r"\frac{1}{2004!}", True),
    ("7", "9**9**9**9", False),
    ("7", "9^{9^{9^9}}", False),
    ("7", "10^{10^{10}}", False),
    ("0,3a", "3a, 0", True),
    (r"\emptyset", r"\{\}", True),
    ("1,000, 2,000", "1000, 2000", True),
    ("1234", "1, 234", False),
    ("27,93", "93,27", True),
    ("100, 200, 300", "100,200,300", True),
    ("100,200,300", "300, 200, 100", True),
    ("e^{t} / 3", r"\frac{e^t}{3}", True),
    ("x / 2-1 / 4+c e^{-2 x}", r"\frac{x}{2}-\frac14+ce^{-2x}", True),
    (r"\sin 3x", r"\sin(3x)", True),
    ("-1./3", r"-\frac13", True),
    ("no solution", r"\text{No solution}", True),
    (r"\frac{21}{2}\pi", r"10.5\pi", True),
    ("2^{1994}", "2^{1994}", True),
    ("2^{10}", "1024", True),
    ("5", r"\text{five}", False),
    (r"\text{odd}", "odd", True),
    ("odd", r"\text{odd}", True),
    (r"\text{odd}", "even", False),
    (r"\text{October 30}", "October 30", True),
    (r"\text{A,B}", "A, B", True),
    (r"\text{A,B}", "A, C", False),
    (r"75\%", "75", True),
    (r"75\%", "0.75", True),
    (r"75\%", "0.0075", False),
    ("5", "2+3", True),
    (r"\frac{3}{4}", r"0.75\%", True),
    ("10", r"10 \text{ hours}", True),
    ("x^2", "X^2", True),
    (r"\log_2 8", "3", True),
    (r"\infty", r"-\infty", False),
    (r"\infty", r"\infty", True),
]


@pytest.mark.parametrize(("gold", "answer", "same"), PAIRS)
def test_pairs_of_answers(gold, answer, same):
    check_reference(gold)
    assert equivalent(gold, answer, LENIENT) is same


# Where ours knows more than math-verify, or compares decimals by relative and not by absolute difference.
BEYOND_MATH_VERIFY = {
    ("3:5", r"\frac{3}{5}"),
    ("6.6e-34", "0"),
    ("x", "x+.0"),
    ("1e-8", "2e-8"),
    ("3 1/2", "31/2"),
    (r"3\frac12", "3 1/2"),
    ("-1./3", r"-\frac13"),
}


def plain(text):
    """Whether math-verify has a fair chance: no unit, percent, ratio or exponent with e, no formula of a megabyte."""
    return not any(mark in text for mark in (":", "e", "$", "%", "text", "circ", "cm", "ours", " m"))


def test_the_shortcut_for_numbers_agrees_with_math_verify():
    compared = 0
    for gold, answer, _ in PAIRS:
        left, right = tidy(gold), tidy(answer)
        verdict = shortcut(left, right, LENIENT)
        if verdict is not None and plain(gold + answer) and (gold, answer) not in BEYOND_MATH_VERIFY:
            assert verdict is equal_symbolically(left, right), (gold, answer)
            compared += 1
    assert compared > 15


def test_the_shortcut_for_formulas_agrees_with_math_verify():
    compared = 0
    for gold, answer, _ in PAIRS:
        left, right = tidy(gold), tidy(answer)
        gold_formula, answer_formula = expressions.parse(left), expressions.parse(right)
        if gold_formula and answer_formula and "^" not in answer and (gold, answer) not in BEYOND_MATH_VERIFY:
            verdict = expressions.compare(gold_formula, answer_formula, LENIENT.tolerance)
            if verdict is not None:
                assert verdict is equal_symbolically(left, right), (gold, answer)
                compared += 1
    assert compared > 20


def formulas_of_math500():
    if not MATH500.exists():
        pytest.skip(f"no MATH-500 at {MATH500}")
    with MATH500.open() as lines:
        golds = [tidy(json.loads(line)["answer"]) for line in lines]
    return [gold for gold in dict.fromkeys(golds) if expressions.parse(gold) and not gold.isdigit()]


def agree_with_math_verify(golds):
    for left, right in zip(golds, golds[1:] + golds[:1], strict=True):
        verdict = expressions.compare(expressions.parse(left), expressions.parse(right), LENIENT.tolerance)
        assert verdict is None or verdict is equal_symbolically(left, right), (left, right)
        assert expressions.compare(expressions.parse(left), expressions.parse(left), 0.0) is True


def test_the_grammar_gets_no_deep_text():
    """Its time grows with the square of the depth of brackets, to seconds for a hundred."""
    depth = symbolic.MAX_DEPTH
    assert symbolic.parse("(" * depth + "7" + ")" * depth) == (7,)
    assert symbolic.parse("(" * (depth + 1) + "7" + ")" * (depth + 1)) == ()


def test_formulas_of_real_references_agree_with_math_verify():
    agree_with_math_verify(formulas_of_math500()[:25])


@pytest.mark.slow  # the same on all of them
def test_all_formulas_of_real_references_agree_with_math_verify():
    golds = formulas_of_math500()
    assert len(golds) > 80
    agree_with_math_verify(golds)


@pytest.mark.parametrize(
    ("setting", "value", "gold", "answer", "same"),
    [
        ("percent", "value", "0.5", r"50\%", True),
        ("percent", "value", "50", r"50\%", False),
        ("percent", "ignore", "50", r"50\%", True),
        ("percent", "ignore", "0.5", r"50\%", False),
        ("percent", "value", r"50\%", r"\frac{1}{2}", True),
        ("units", "ignore", "5 meters", "5 feet", True),
        ("units", "require", r"5\text{ cm}", "5", False),
        ("units", "require", r"5\text{ cm}", "5 centimeters", True),
        ("units", "require", "5", "5 cm", True),
        ("tolerance", 0.01, "1.6", "1.61", True),
        ("tolerance", 0.01, "1.6", "1.62", False),
        ("tolerance", 0.01, "100", "101", False),
        ("tolerance", 0.0, r"\frac{1}{3}", "0.333333", False),
        ("tolerance", 0.01, r"\sqrt{2}", "1.41", True),
        ("ordered_lists", True, "1,2", "2,1", False),
        ("ordered_lists", True, "1,2", "1, 2", True),
        ("ordered_lists", True, r"\{1,2\}", r"\{2,1\}", True),
    ],
)
def test_each_setting_does_what_it_says(setting, value, gold, answer, same):
    assert equivalent(gold, answer, replace(LENIENT, **{setting: value})) is same


def test_presets_from_lenient_to_strict():
    assert [equivalent("50", r"50\%", PRESETS[name]) for name in ("lenient", "boxed", "strict")] == [True, True, False]


@pytest.mark.parametrize("gold", ["}{", "", " ", r"\frac{", r"\boxed{}", "(" * 5000])
def test_a_reference_that_nothing_reads(gold):
    with pytest.raises(BadReference):
        check_reference(gold)


@pytest.mark.parametrize("answer", ["}{", r"\frac{", "^^", r"\left("])
def test_an_answer_that_nothing_reads(answer):
    with pytest.raises(Unreadable):
        equivalent("7", answer, LENIENT)


def test_a_reference_too_large_to_evaluate_is_equal_to_its_own_spelling_only():
    assert equivalent("9^{9^{9^9}}", "9^{9^{9^9}}", LENIENT)
    with pytest.raises(BadReference, match="too large"):
        equivalent("9^{9^{9^9}}", "7", LENIENT)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 20_000,
        "(" * 10_000 + ")" * 10_000,
        r"\frac{1}{" * 2000 + "1" + "}" * 2000,
        r"\sqrt{" * 3000 + "2" + "}" * 3000,
        "1," * 10_000,
        "1 " * 10_000,
        " " * 20_000 + "x",
        r"\text{" * 3000,
        "a " * 10_000,
        "$" * 20_000,
        "**" * 10_000,
        "-" * 20_000,
        "x^" * 10_000,
        r"\frac" * 4000,
        "A." * 10_000,
        "((A)" * 5000,
        "5" + "cm" * 9000,
        "1" * 20_000,
        "0." + "1" * 19_000,
        r"\boxed{" * 2800 + "}" * 2800,
        "9**" * 6000 + "9",
    ],
    ids=lambda text: text[:10],
)
def test_hostile_text_takes_little_time(text):
    """What backtracks, recurses or doubles would need minutes here."""
    began = time.process_time()
    with suppress(Unreadable):
        assert not equivalent("7", text, LENIENT)
    assert time.process_time() - began < 5.0


def test_values_decide_between_formulas_at_points_and_math_verify():
    def compare(left, right):
        return expressions.compare(expressions.parse(left), expressions.parse(right), 1e-6)

    assert compare("(x+1)^3", "x^3+3x^2+3x+1") is True
    assert compare("(x+1)^3", "x^3+3x^2+3x+2") is False
    assert compare(r"\sqrt{x^2}", "x") is None  # above zero only
    assert expressions.parse("x^12") is None  # two readings
    assert expressions.parse(r"\int x") is None
    assert expressions.compare(expressions.parse("1"), expressions.parse("100"), 0.0, Fraction(1, 100)) is True


def test_equations_that_are_multiples_of_each_other():
    def multiple(left, right):
        return expressions.is_multiple(expressions.parse(left), expressions.parse(right))

    assert multiple("y-2x", "x-y/2") is True
    assert multiple("x-1", "k-1") is False
    assert multiple("x-1", "x-2") is None
    assert multiple("xy-1", "y-1/x") is None  # the same curve, which math-verify finds


def test_clearly_different_values_are_not_simplified(monkeypatch):
    monkeypatch.setattr(symbolic.math_verify, "verify", lambda *_, **__: pytest.fail("asked math-verify"))
    assert equal_symbolically(r"4\sqrt{65}", r"\log(\frac{2007}{2006})") is False
    assert equal_symbolically(r"\sin^2 t", r"\cos^2 t") is False
    assert equal_symbolically(r"\tan \theta = 2\theta", "2x - y + 2z - 18 = 0") is False


def test_math_verify_evaluates_nothing_too_large():
    huge = symbolic.parse("9^{9^{9^9}}")
    assert huge
    assert symbolic.equal(symbolic.parse("7"), huge) is False
    with pytest.raises(expressions.TooLarge):
        symbolic.equal(huge, symbolic.parse("7"))
