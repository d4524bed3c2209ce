import time

import pytest

from reward.verifiers.extraction import MATH_RULES, first_found, last_boxed, last_tag


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{5}, no: \boxed{7}", "7"),
        (r"\boxed{5} in \boxed{ }", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed{5} and then \boxed{7", "5"),
        (r"} } \boxed{7}", "7"),
        (r"{ \boxed{7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}", None),
        (r"\boxed{", None),
        (r"\\boxed{7}", None),
        ("", None),
    ],
)
def test_last_boxed(text, found):
    assert last_boxed(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer>7</answer>", "7"),
        ("<answer>5</answer> or <answer>7</answer>", "7"),
        ("<answer>5</answer> or <answer>7", "5"),
        ("<answer>5 <answer>7</answer>", "7"),
        ("<answer>5</answer> stray </answer>", "5"),
        ("<answer>\n7\n</answer>", "\n7\n"),
        ("</answer>", None),
        ("</answer><answer>", None),
        ("<answer>", None),
        ("7", None),
    ],
)
def test_last_tag(text, found):
    assert last_tag(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"#### 5 the answer is 6 <answer>7</answer> \boxed{8} 9", ("8", "boxed")),
        ("#### 5 \n the answer is 6 <answer>7</answer> 9", ("5", "hash")),
        ("the answer is 6. <answer>7</answer> 9", ("7", "answer_tag")),
        ("The final answer is: **6**. I am sure, 9", ("6", "the_answer_is")),
        ("The answer is 0.5", ("0.5", "the_answer_is")),
        ("**Answer:** 12\nfor 3", ("12", "the_answer_is")),
        ("first 3, then 9.", ("9", "last_number")),
        ("16 - 3 = 13, or 5-3", ("3", "last_number")),
        ("it falls to -3", ("-3", "last_number")),
        ("pay 1,234.50 now", ("1,234.50", "last_number")),
        ("#### 3. Add them\n12", ("12", "last_number")),
        ("#### $72", ("$72", "hash")),
        ("#### 1/2", ("1/2", "hash")),
        (r"\boxed{ } so 4", ("4", "last_number")),
        ("no idea", None),
    ],
)
def test_the_rules_go_in_order(text, found):
    assert first_found(text, list(MATH_RULES.items())) == found


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 150_000,
        "<answer>" * 125_000,
        "</answer><answer>" * 60_000,
        "####" + " " * 1_000_000 + "x",
        "#" * 1_000_000,
        "answer" + " " * 1_000_000,
        "answer is " * 100_000,
        "1" * 1_000_000,
        "1," * 500_000,
        "-" * 1_000_000,
    ],
    ids=lambda text: text[:10],
)
def test_a_megabyte_takes_linear_time(text):
    """A rule that is quadratic in the text would need hours here."""
    began = time.process_time()
    first_found(text, list(MATH_RULES.items()))
    assert time.process_time() - began < 5.0
