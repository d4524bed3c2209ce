import pytest

from reward.code.compare import same_output, same_value


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ("5 2\n", "5 2", True),
        ("5 2  \r\n\n\n", "5 2 \n", True),
        ("5  2", "5 2", True),
        ("5\n2", "5 2", False),
        ("5 2", "5 2\n1", False),
        ("", "0", False),
        ("", "\n", True),
        ("0.3333333", "0.33333333", True),
        ("0.3334", "0.33333333", False),
        ("1e3", "1000.0", True),
        ("1000000.5", "1000000.1", True),
        ("1000000", "1000001", False),
        ("7.0", "7", False),
        ("inf", "1.5", False),
        ("1e999", "1.5", False),
        ("nan", "1.5", False),
        ("nan", "nan", True),
        ("1.5", "inf", False),
        ("yes", "YES", False),
    ],
)
def test_output_as_judges_compare_it(actual, expected, same):
    assert same_output(actual, expected, tolerance=1e-6) is same


def test_without_a_tolerance_words_are_exact():
    assert same_output("0.50\n", "0.50", tolerance=0.0)
    assert not same_output("0.5", "0.50", tolerance=0.0)


class Yes:
    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ((1, (2, 3)), [1, [2, 3]], True),
        ([1, 2], [1, 2, 3], False),
        ({1: "a", None: 2}, {"1": "a", "null": 2}, True),
        ({1: "a", "1": "b"}, {"1": "b"}, False),
        (True, 1, False),
        (1, True, False),
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (0.31, 0.3, False),
        (float("inf"), 0.3, False),
        (float("nan"), 0.3, False),
        (10**400, 0.3, False),
        (0.3, "0.3", False),
        ("a", "a", True),
        (None, None, True),
        (None, [], False),
        ({1, 2}, [1, 2], False),
        (b"a", "a", False),
        (Yes(), 1, False),
        (Yes(), [1], False),
        (Yes(), 1.0, False),
    ],
)
def test_values_against_json(actual, expected, same):
    assert same_value(actual, expected, tolerance=1e-6) is same
