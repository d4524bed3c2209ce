"""The part of pytest that short tests use, so that it is there in every sandbox: raises, approx, mark.parametrize.

No fixtures: what is missing here raises `AttributeError` where the tests are read.
"""

import math
import re
import types

NUMBERS = (int, float)


class _Raises:
    def __init__(self, kinds, match):
        self._kinds = kinds
        self._match = match
        self.value = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            raise AssertionError(f"did not raise {self._kinds}")
        if not issubclass(kind, self._kinds):
            return False
        if self._match is not None and not re.search(self._match, str(error)):
            raise AssertionError(f"{str(error)!r} does not match {self._match!r}")
        self.value = error
        return True


def raises(kinds, *call, match=None, **kwargs):
    if not call:
        return _Raises(kinds, match)
    with _Raises(kinds, match):
        return call[0](*call[1:], **kwargs)


class approx:
    """Equal to numbers, and to lists, tuples and dicts of numbers, up to a tolerance; to nothing else."""

    def __init__(self, expected, rel=None, abs=None):
        self._expected = expected
        self._tolerances = rel, abs

    def __eq__(self, actual):
        expected = self._expected
        if type(expected) in (list, tuple):
            return (
                type(actual) is type(expected)
                and len(actual) == len(expected)
                and all(self._again(e) == a for a, e in zip(actual, expected, strict=True))
            )
        if type(expected) is dict:
            return (
                type(actual) is dict
                and actual.keys() == expected.keys()
                and all(self._again(expected[key]) == actual[key] for key in expected)
            )
        if type(expected) not in NUMBERS or type(actual) not in NUMBERS:
            return type(expected) is type(actual) and expected == actual
        rel, absolute = self._tolerances
        tolerance = max(1e-12 if absolute is None else absolute, (1e-6 if rel is None else rel) * math.fabs(expected))
        if rel is None and absolute is not None:
            tolerance = absolute
        return actual == expected or math.fabs(actual - expected) <= tolerance < math.inf

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        return f"approx({self._expected!r})"

    def _again(self, expected):
        return approx(expected, *self._tolerances)


def _parametrize(names, rows):
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    sets = [dict(zip(names, row if len(names) > 1 else [row], strict=True)) for row in rows]

    def mark(function):
        before = getattr(function, "parameters", [{}])
        function.parameters = [{**old, **new} for old in before for new in sets]
        return function

    return mark


def module():
    found = types.ModuleType("pytest")
    vars(found).update(raises=raises, approx=approx, mark=types.SimpleNamespace(parametrize=_parametrize))
    return found


def collect(namespace):
    """(name, callable without arguments) for each test, in order: `test*` functions, and methods of `Test*` classes."""
    for name, found in list(namespace.items()):
        if name.startswith("test") and callable(found):
            yield from _runs(name, found, found)
        elif name.startswith("Test") and isinstance(found, type):
            for method in [method for method in vars(found) if method.startswith("test")]:
                yield from _runs(f"{name}.{method}", vars(found)[method], _method(found, method))


def _runs(name, marked, function):
    for parameters in getattr(marked, "parameters", [{}]):
        yield name, lambda parameters=parameters: function(**parameters)


def _method(kind, name):
    def run(**parameters):
        instance = kind()
        if hasattr(instance, "setup_method"):
            instance.setup_method()
        getattr(instance, name)(**parameters)

    return run
