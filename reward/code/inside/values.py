"""Plain values as JSON, so that nothing of a program but data reaches its tests, and the other way round.

Exact types only, and built-in classes by their name: a subclass of `str` with a comparison of its own is not a string.
Whatever is not plain crosses as a number that stands for it (a handle); `Values.wrap` and `unwrap` of the two sides say
what that means. Instances of the classes in `records` cross with their attributes and become instances of the class of
that name on the other side.

A value is a JSON scalar, or a list of one index into a table of nodes. The table keeps shared references and cycles,
and needs no recursion: a deep structure is a long table. Nodes of immutable types stand after what contains them.
"""

import builtins
import collections

LARGE = 1 << 4096  # JSON's decimal digits take quadratic time, and Python refuses to read more than 4,300
INLINE = {type(None), bool, float, str}
FILLED = {"list": list, "dict": dict, "set": set, "deque": collections.deque, "bytearray": bytearray}
DICTS = {"Counter": collections.Counter, "OrderedDict": collections.OrderedDict, "defaultdict": collections.defaultdict}
BUILT = {"tuple": tuple, "frozenset": frozenset}
NAMES: dict[type, str] = {kind: name for name, kind in {**FILLED, **DICTS, **BUILT}.items()}
# Types of modules that most programs do without, where they are and how they are written.
TEXTS: dict = {"Decimal": ("decimal", str), "Fraction": ("fractions", str)}
TEXTS |= {name: ("datetime", lambda value: value.isoformat()) for name in ("datetime", "date", "time")}

_MISSING = object()


class Malformed(Exception):
    """A message that no honest far end writes."""


class Unsendable(TypeError):
    """A value that cannot cross."""


class Values:
    """One side's way of writing and reading values.

    records  classes whose instances cross with their attributes, by name
    wrap     makes a handle for a value that is not plain, or raises `Unsendable`
    unwrap   gives the value of a handle
    """

    def __init__(self, records, wrap, unwrap):
        self.records = records
        self._wrap = wrap
        self._unwrap = unwrap

    def encode(self, value):
        """JSON values {"root", "nodes"}. Raises `Unsendable`."""
        nodes: list = []
        pending: list = []
        seen: dict = {}

        def slot(value):
            kind = type(value)
            if kind in INLINE or (kind is int and -LARGE < value < LARGE):
                return value
            if id(value) in seen:
                return [seen[id(value)][0]]
            index = len(nodes)
            nodes.append(None)
            if kind not in (tuple, frozenset):
                seen[id(value)] = (index, value)  # holding the value keeps its id its own
            pending.append((index, value))
            return [index]

        root = slot(value)
        while pending:
            index, value = pending.pop()
            nodes[index] = self._node(value, slot)
        return {"root": root, "nodes": nodes}

    def decode(self, message):
        """The value of what `encode` wrote. Raises `Malformed`."""
        try:
            return self._decode(message["root"], message["nodes"])
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
            raise Malformed(f"{type(error).__name__}: {error}") from error

    def _node(self, value, slot):
        kind = type(value)
        if kind in (list, tuple, set, frozenset):
            kinds = set(map(type, value))
            if kinds <= INLINE or (kinds == {int} and min(value) > -LARGE and max(value) < LARGE):
                return [NAMES[kind], *value]
            return [NAMES[kind], *map(slot, value)]
        if kind is dict or kind in DICTS.values():
            return [NAMES[kind], *(slot(part) for pair in dict.items(value) for part in pair)]
        if kind is int:
            return ["int", hex(value)]
        if kind is complex:
            return ["complex", value.real, value.imag]
        if isinstance(value, type) and value in vars(builtins).values():
            return ["type", value.__name__]
        if kind in (bytes, bytearray):
            return [kind.__name__, value.decode("latin-1")]
        if kind is range:
            return ["range", slot(value.start), slot(value.stop), slot(value.step)]
        if kind is collections.deque:
            return ["deque", value.maxlen, *map(slot, value)]
        if kind.__name__ == "timedelta" and kind.__module__ == "datetime":
            return ["timedelta", value.days, value.seconds, value.microseconds]
        if TEXTS.get(kind.__name__, ("",))[0] == kind.__module__:
            return [kind.__name__, TEXTS[kind.__name__][1](value)]
        name = next((name for name, record in self.records.items() if record is kind), None)
        if name is not None and hasattr(value, "__dict__"):
            return ["record", name, *(slot(part) for pair in vars(value).items() for part in pair)]
        return ["handle", self._wrap(value)]

    def _decode(self, root, nodes):
        built = [self._shell(node) for node in nodes]

        def value(slot):
            if type(slot) is not list:
                return slot
            found = built[slot[0]]
            if found is _MISSING:
                raise Malformed("an immutable value that contains itself")
            return found

        for index in range(len(nodes) - 1, -1, -1):
            if built[index] is _MISSING:
                built[index] = self._immutable(nodes[index], value)
        for node, found in zip(nodes, built, strict=True):
            self._fill(found, node, value)
        return value(root)

    def _shell(self, node):
        if node[0] in FILLED:
            return FILLED[node[0]]() if node[0] != "deque" else collections.deque(maxlen=node[1])
        if node[0] in DICTS:
            return DICTS[node[0]]()
        if node[0] == "record":
            return object.__new__(self.records[node[1]])
        return _MISSING

    def _immutable(self, node, value):
        name, rest = node[0], node[1:]
        if name in BUILT:
            return BUILT[name](map(value, rest))
        if name == "int":
            return int(rest[0], 16)
        if name == "complex":
            return complex(*rest)
        if name == "bytes":
            return rest[0].encode("latin-1")
        if name == "range":
            return range(*map(value, rest))
        if name == "type" and isinstance(found := getattr(builtins, rest[0]), type):
            return found
        if name == "timedelta":
            return _imported("datetime", name)(*rest)
        if name in TEXTS:
            kind = _imported(TEXTS[name][0], name)
            return kind(rest[0]) if TEXTS[name][1] is str else kind.fromisoformat(rest[0])
        if name == "handle":
            return self._unwrap(rest[0])
        raise Malformed(f"there is no kind of value {name!r}")

    def _fill(self, found, node, value):
        name = node[0]
        if name in ("dict", "record") or name in DICTS:
            first = 2 if name == "record" else 1
            parts = [value(part) for part in node[first:]]
            pairs = zip(parts[::2], parts[1::2], strict=True)
            if name == "record":
                for attribute, content in pairs:
                    object.__setattr__(found, attribute, content)
            else:
                for key, content in pairs:
                    found[key] = content
        elif name == "list":
            found.extend(map(value, node[1:]))
        elif name == "set":
            found.update(map(value, node[1:]))
        elif name == "deque":
            found.extend(map(value, node[2:]))
        elif name == "bytearray":
            found.extend(node[1].encode("latin-1"))


def _imported(module, name):
    return getattr(__import__(module), name)
