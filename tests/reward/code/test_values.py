"""Plain data comes out as it went in; whatever else a far end writes is malformed."""

import collections
import datetime
import decimal
import fractions
import json

import pytest

from reward.code.inside.values import Malformed, Unsendable, Values


class Node:
    def __init__(self, value, following=None):
        self.value = value
        self.following = following


def refuse(value):
    raise Unsendable(type(value).__name__)


VALUES = Values({"Node": Node}, refuse, refuse)


def there(value):
    return VALUES.decode(json.loads(json.dumps(VALUES.encode(value))))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -7,
        10**1000,
        -(10**5000),
        1.5,
        float("inf"),
        -0.0,
        1 + 2j,
        "a\ud800\x00é",
        b"\x00\xff",
        bytearray(b"x"),
        [1, [2.0, "x"], (3, None)],
        [10**5000, 1],
        (),
        {1, 2},
        {(1, 2), frozenset({3})},
        {"a": {1: [2]}, (1, 2): None},
        range(1, 9, 2),
        decimal.Decimal("1.10"),
        fractions.Fraction(1, 3),
        datetime.datetime(2026, 1, 2, 3, 4),
        datetime.date(2026, 1, 2),
        datetime.timedelta(days=1, seconds=2),
        collections.deque([1, 2], maxlen=3),
        collections.Counter("aab"),
        collections.OrderedDict(b=1, a=2),
        int,
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_cross(value):
    found = there(value)
    assert type(found) is type(value)
    assert repr(found) == repr(value) if isinstance(value, float) else found == value


def test_sharing_and_cycles_are_kept():
    row = [0]
    first, second = there([row, row])
    assert first is second
    loop = there(_loop())
    assert loop[0] is loop


def _loop():
    loop = []
    loop.append(loop)
    return loop


def test_depth_needs_no_recursion():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    found, depth = there(deep), 0
    while found:
        found, depth = found[0], depth + 1
    assert depth == 100_000


def test_records_become_instances_of_the_class_here():
    chain = Node(1, Node(2))
    chain.following.following = chain
    found = there(chain)
    assert type(found) is Node
    assert (found.value, found.following.value) == (1, 2)
    assert found.following.following is found


@pytest.mark.parametrize(
    "value",
    [
        object(),
        len,
        type("S", (str,), {})("x"),
        type("I", (int,), {})(3),
        type("L", (list,), {})(),
        Node,
        [Exception()],
    ],
)
def test_all_else_is_a_handle(value):
    with pytest.raises(Unsendable):
        VALUES.encode(value)


@pytest.mark.parametrize(
    "message",
    [
        None,
        3,
        {},
        {"root": [0], "nodes": []},
        {"root": [0], "nodes": [["tuple", [0]]]},
        {"root": [0], "nodes": [["nonsense"]]},
        {"root": [0], "nodes": [[]]},
        {"root": [0], "nodes": [3]},
        {"root": ["a"], "nodes": [["list"]]},
        {"root": [0], "nodes": [["set", [1]], ["list"]]},
        {"root": [0], "nodes": [["dict", "a"]]},
        {"root": [0], "nodes": [["dict", [1], 2], ["list"]]},
        {"root": [0], "nodes": [["int", "zz"]]},
        {"root": [0], "nodes": [["bytes", "\u1234"]]},
        {"root": [0], "nodes": [["record", "Other"]]},
        {"root": [0], "nodes": [["record", "Node", 3, 4]]},
        {"root": [0], "nodes": [["type", "print"]]},
        {"root": [0], "nodes": [["type", "Node"]]},
        {"root": [0], "nodes": [["Decimal", "x"]]},
        {"root": [0], "nodes": [["handle", 0]]},
    ],
)
def test_malformed_messages(message):
    with pytest.raises((Malformed, Unsendable)):
        VALUES.decode(message)
