import pytest

from reward.code.reference import Returns, Streams, Written, read_reference
from reward.types import BadReference


@pytest.mark.parametrize(
    ("gold", "reference"),
    [
        ({"test": "t", "entry_point": "f"}, Written("", "", ("t",), "f", "module")),
        (
            {"test": "t", "entry_point": "Solution().f", "prompt": "import math"},
            Written("import math", "", ("t",), "Solution().f", "module"),
        ),
        (
            {"test_imports": ["import a", "b = 1"], "test_list": ["x", "y"]},
            Written("", "import a\nb = 1", ("x", "y"), "", "module"),
        ),
        ({"setup": "", "tests": "x"}, Written("", "", ("x",), "", "module")),
        ({"setup": ["import a"], "tests": "x"}, Written("", "import a", ("x",), "", "module")),
        ({"tests": ["x"], "setup": None}, Written("", "", ("x",), "", "module")),
        ({"pytest": "x"}, Written("", "", ("x",), "", "pytest")),
        ({"inputs": ["1\n", ["2", "3"]], "outputs": ["1", "5"]}, Streams(("1\n", "2\n3"), ("1", "5"))),
        ({"inputs": ["1"], "outputs": ["1"], "fn_name": None}, Streams(("1",), ("1",))),
        ({"fn_name": "f", "inputs": [[1, [2]]], "outputs": [3]}, Returns("f", ([1, [2]],), (3,), False)),
        ({"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [4]]}, Returns("f", ([1], [2]), ([3], [4]), True)),
        ({"fn_name": "f", "inputs": ['[1, 2]\n"a"'], "outputs": ["7"]}, Returns("f", ([[1, 2], "a"],), (7,), False)),
    ],
)
def test_shapes(gold, reference):
    assert read_reference(gold) == reference


@pytest.mark.parametrize(
    ("gold", "sentence"),
    [
        (None, "got NoneType"),
        ("assert f(1)", "got str"),
        ({}, "has the keys none"),
        ({"test": "t"}, "has the keys test"),
        ({"test": "", "entry_point": "f"}, "gold.test is a text"),
        ({"test": "t", "entry_point": "f; import os"}, "gold.entry_point is a name"),
        ({"test": "t", "entry_point": "__import__('os').getcwd"}, "gold.entry_point is a name"),
        ({"test_list": []}, "gold.test_list"),
        ({"test_list": [1]}, "gold.test_list"),
        ({"tests": ["x"], "setup": 3}, "gold.setup"),
        ({"inputs": [], "outputs": []}, "0 inputs"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"inputs": "1", "outputs": "1"}, "gold.inputs is a list"),
        ({"inputs": [1], "outputs": ["1"]}, "gold.inputs holds texts"),
        ({"fn_name": "f", "inputs": [1], "outputs": [1]}, r"gold.inputs\[0\] is a list"),
        ({"fn_name": "f", "inputs": ["[1"], "outputs": ["1"]}, r"gold.inputs\[0\] or its output is no JSON"),
    ],
)
def test_what_cannot_be_read(gold, sentence):
    with pytest.raises(BadReference, match=sentence):
        read_reference(gold)
