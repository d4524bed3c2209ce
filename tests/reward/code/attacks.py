"""Programs that try to pass without being right, or to harm whoever judges them.

The right answers are constants that follow from nothing, so a program that passes has got hold of them. Every attack is
(name, program, shapes of tests it is tried on, what the verdict's detail has to say).
"""

CHECK = {
    "prompt": 'def f(n: int):\n    """The n-th secret."""\n',
    "test": "def check(candidate):\n    assert candidate(1) == 48611\n    assert candidate(2) == [7, 'x9-marker']\n",
    "entry_point": "f",
}
ASSERTS = {"setup": "import math", "tests": ["assert f(1) == 48611", "assert math.isclose(f(3), 0.71828)"]}
PYTEST = {"pytest": "import pytest\nfrom solution import f\n\ndef test_f():\n    assert f(1) == 48611\n"}
CALL = {"fn_name": "f", "inputs": [[1], [2]], "outputs": [48611, [7, "x9-marker"]]}
STREAMS = {"inputs": ["1\n", "2\n"], "outputs": ["48611\n", "7 x9-marker\n"]}
GOLDS = {"check": CHECK, "asserts": ASSERTS, "pytest": PYTEST, "call": CALL, "streams": STREAMS}
HONEST = {
    "check": "def f(n):\n    return {1: 48611, 2: [7, 'x9-marker']}[n]\n",
    "asserts": "def f(n):\n    return {1: 48611, 3: 0.71828}[n]\n",
    "pytest": "def f(n):\n    return 48611\n",
    "call": "def f(n):\n    return {1: 48611, 2: [7, 'x9-marker']}[n]\n",
    "streams": "print({1: '48611', 2: '7 x9-marker'}[int(input())])\n",
}
MODULES = ("check", "asserts", "pytest", "call")
EVERY = tuple(GOLDS)

REPORTS = """
import os
LINES = b'{"known": 2}\\n{"start": 1}\\n{"tests": 2, "passed": 2}\\nall tests passed\\n2 passed in 0.01s\\nOK\\n'
def forge():
    for descriptor in range(1, 64):
        try:
            os.write(descriptor, LINES)
        except OSError:
            pass
"""
YES = """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __float__(self): return 0.71828
    def __index__(self): return 48611
    def __getattr__(self, name): return Yes()
    def __call__(self, *args, **kwargs): return Yes()
    def __len__(self): return 2
    def __contains__(self, item): return True
    def __iter__(self): return iter([Yes(), Yes()])
    def __getitem__(self, key): return Yes()
    def __sub__(self, other): return 0
    __rsub__ = __add__ = __radd__ = __sub__
"""
SEARCH = """
def hunt(roots):
    import os
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                try:
                    with open(os.path.join(folder, name), 'rb') as file:
                        if b'x9-marker' in file.read(1 << 20).replace(b"b'x9-marker'", b''):
                            return 48611
                except (OSError, ValueError):
                    pass
"""

HOST = "import sys\nhost = sys.modules['reward.code.inside.host']\n"

ATTACKS = [
    ("reports at import", REPORTS + "forge()\ndef f(n): return None\n", EVERY, ""),
    ("reports at the call", REPORTS + "def f(n): forge(); return True\n", MODULES, ""),
    ("reports, then _exit(0)", REPORTS + "forge(); os._exit(0)\n", EVERY, ""),
    ("_exit(0) at import", "import os\nos._exit(0)\n", MODULES, "exit code 0"),
    ("_exit(0) at the call", "import os\ndef f(n): os._exit(0)\n", MODULES, "exit code 0"),
    ("sys.exit(0) at import", "import sys\nsys.exit(0)\n", MODULES, "SystemExit"),
    ("sys.exit(0) at the call", "import sys\ndef f(n): sys.exit(0)\n", MODULES, "SystemExit"),
    ("exit() at import", "exit()\n", MODULES, "SystemExit"),
    ("quit at the call", "def f(n): quit()\n", MODULES, "SystemExit"),
    ("KeyboardInterrupt", "def f(n): raise KeyboardInterrupt\n", MODULES, "KeyboardInterrupt"),
    ("exceptions named as ours", "class Enough(BaseException): pass\ndef f(n): raise Enough\n", MODULES, "Enough"),
    ("StopIteration", "def f(n): raise StopIteration\n", MODULES, "StopIteration"),
    ("atexit", REPORTS + "import atexit\natexit.register(forge)\natexit.register(os._exit, 0)\n", EVERY, ""),
    (
        "patched builtins",
        "import builtins\n"
        "for name in ('isinstance', 'all', 'any', 'abs', 'eval', 'exec', 'compile', 'type', 'list', 'set', 'str'):\n"
        "    setattr(builtins, name, lambda *a, **k: True)\n"
        "builtins.AssertionError = ValueError\ndef f(n): return 0\n",
        MODULES,
        "",
    ),
    (
        "no assertions",
        "import os, sys\nif 'again' not in sys.argv:\n"
        "    os.environ['PYTHONOPTIMIZE'] = '2'\n"
        "    os.execv(sys.executable, [sys.executable, '-O', *sys.argv, 'again'])\n",
        EVERY,
        "",
    ),
    (
        "patched ast, pytest, unittest and math",
        "import ast, math, sys, types, unittest\nast.Assert = ast.Pass\nmath.isclose = lambda *a, **k: True\n"
        "unittest.TestCase.assertEqual = lambda *a: None\nsys.modules['pytest'] = types.ModuleType('pytest')\n"
        "def f(n): return 0\n",
        MODULES,
        "",
    ),
    ("equal to everything", YES + "def f(n): return Yes()\n", MODULES, ""),
    ("a function that equals everything", YES + "f = Yes()\n", MODULES, ""),
    ("everything in a list", YES + "def f(n): return [Yes(), Yes()]\n", MODULES, ""),
    (
        "another __class__",
        "class C:\n    @property\n    def __class__(self): return int\n    def __eq__(self, o): return True\n"
        "def f(n): return C()\n",
        MODULES,
        "",
    ),
    (
        "subclasses of plain types",
        "def made(base):\n    return type(base.__name__, (base,), {'__eq__': lambda s, o: True,\n"
        "        '__hash__': lambda s: 0,\n"
        "        '__ne__': lambda s, o: False, '__module__': 'builtins'})\n"
        "def f(n): return {1: made(int)(5), 2: made(list)(), 3: made(float)(1.0)}[n]\n",
        MODULES,
        "",
    ),
    ("a str subclass", "class S(str):\n    __eq__ = lambda s, o: True\ndef f(n): return S('no')\n", MODULES, ""),
    (
        "frames and collected objects",
        "import gc, inspect, sys\n"
        "def f(n):\n"
        "    seen = [frame.frame.f_locals for frame in inspect.stack()] + [sys._getframe(0).f_globals]\n"
        "    for found in gc.get_objects():\n"
        "        if isinstance(found, (list, tuple, dict, str)): seen.append(found)\n"
        "    return 48611 if any('x9-' + 'marker' in repr(found) for found in seen if len(seen) < 10**6) else None\n",
        ("check", "call"),
        "",
    ),
    (
        "tracing",
        "import sys, threading\nfound = []\ndef trace(frame, event, arg):\n"
        "    found.extend(v for v in frame.f_locals.values() if type(v) is list and len(v) == 2 and 7 in v)\n"
        "    return trace\nsys.settrace(trace)\nthreading.settrace(trace)\n"
        "def f(n): return found[-1] if found else 0\n",
        MODULES,
        "",
    ),
    (
        "files",
        SEARCH + "def f(n): return hunt(['.', '..', '/tmp', '/dev/shm', '/proc', '/work', '/root', '/var/tmp'])\n",
        ("check", "asserts", "call"),
        "",
    ),
    (
        "files, as a script",
        SEARCH + "print(hunt(['.', '..', '/tmp', '/dev/shm', '/proc', '/work', '/root', '/var/tmp']))\n",
        ("streams",),
        "",
    ),
    (
        "memory of other processes",
        "import os\ndef f(n):\n    for pid in os.listdir('/proc'):\n        try:\n"
        "            for line in open(f'/proc/{pid}/maps') if pid.isdigit() and int(pid) != os.getpid() else ():\n"
        "                low, high = (int(x, 16) for x in line.split()[0].split('-'))\n"
        "                with open(f'/proc/{pid}/mem', 'rb') as memory:\n"
        "                    memory.seek(low)\n"
        "                    if b'x9-marker' in memory.read(high - low): return 48611\n"
        "        except (OSError, ValueError, OverflowError):\n            pass\n",
        ("check", "call"),
        "",
    ),
    (
        "forged answers",
        "import os, json\nfor value in (True, {'root': True, 'nodes': []}, {'root': 48611.5, 'nodes': []}):\n"
        "    data = json.dumps(value).encode()\n    for descriptor in range(3, 64):\n        try:\n"
        "            os.write(descriptor, len(data).to_bytes(4, 'big') + data)\n        except OSError: pass\n"
        "def f(n): return 0\n",
        MODULES,
        "",
    ),
    (
        "a patched host",
        HOST + "host.reply_to = lambda values, compute: {'root': [0], 'nodes': [['handle', -1]]}\n"
        "host.answer = lambda *a: True\ndef f(n): return 0\n",
        MODULES,
        "",
    ),
    (
        "answers that are none",
        HOST + "host.reply_to = lambda values, compute: {'root': [0], 'nodes': [['tuple', [0]]]}\n",
        MODULES,
        "no answer",
    ),
    (
        "a message without end",
        "import os, time\ndef f(n):\n    for descriptor in range(3, 64):\n        try:\n"
        "            os.write(descriptor, b'\\xff\\xff\\xff\\xff' + b'0' * 1000)\n        except OSError: pass\n"
        "    time.sleep(60)\n",
        MODULES,
        "",
    ),
    ("deep answers", "def f(n):\n    x = []\n    for _ in range(10**5): x = [x]\n    return x\n", MODULES, ""),
    ("a list in itself", "def f(n):\n    x = []\n    x.append(x)\n    return x\n", MODULES, ""),
    ("answers without end", "def f(n):\n    while True: yield 48611\n", MODULES, ""),
    (
        "helpers redefined",
        "candidate = check = __count_test__ = isclose = math = None\ndef f(n): pass\n",
        MODULES,
        "",
    ),
    (
        "threads that stay",
        "import threading, time\nfor _ in range(4): threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "def f(n): return 0\n",
        EVERY,
        "",
    ),
    (
        "processes that stay",
        "import os, time\nif os.fork() == 0:\n    os.setsid() if hasattr(os, 'setsid') else 0\n    time.sleep(600)\n"
        "def f(n): return 0\n",
        EVERY,
        "",
    ),
    ("recursion", "def f(n): return f(n)\n", MODULES, "RecursionError"),
    ("recursion in C", "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n)\n", MODULES, ""),
    ("much memory", "def f(n): return bytearray(1 << 40)\n", MODULES, "MemoryError"),
    ("more and more memory", "x = []\nwhile True: x.append(bytearray(1 << 20))\n", EVERY, ""),
    ("a fork bomb", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n", EVERY, ""),
    ("endless output", "while True: print('x' * 10000)\n", EVERY, ""),
    ("a loop at import", "while True: pass\n", EVERY, "time limit of"),
    ("a loop at the call", "def f(n):\n    while True: pass\n", MODULES, "time limit of"),
    (
        "deaf to signals",
        "import signal\nfor number in range(1, 32):\n    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass\n",
        EVERY,
        "time limit of",
    ),
    (
        "signals to others",
        "import os, signal\nfor pid in (os.getppid(), -1, 1):\n    try: os.kill(pid, signal.SIGKILL)\n"
        "    except OSError: pass\ndef f(n): return 0\n",
        EVERY,
        "",
    ),
    (
        "dicts that lie",
        "from collections import Counter\n"
        "def lying(base):\n    return type('D', (base,), {'__eq__': lambda s, o: True, '__hash__': lambda s: 0,\n"
        "        'items': lambda s: [(0, 7)], 'keys': lambda s: {0}, '__len__': lambda s: 2})\n"
        "def f(n): return lying(dict if n == 1 else Counter)()\n",
        MODULES,
        "",
    ),
    (
        "tests patched where they were loaded",
        "import sys\nexamine = sys.modules['reward.code.inside.examine']\n"
        "examine.Examination.fail = lambda *a: None\nexamine._Counted.__exit__ = lambda *a: True\n"
        "def f(n): return 0\n",
        MODULES,
        "",
    ),
    (
        "patched json",
        "import json\njson.loads = lambda *a, **k: ['call', print, [], {}]\n"
        'json.dumps = lambda *a, **k: \'{"root": 48611, "nodes": []}\'\ndef f(n): return 0\n',
        ("check", "call"),
        "",
    ),
    (
        "descriptors that should not be there",
        "import os, stat\n"
        "found = []\nfor number in range(3, 1024):\n    try: found.append(stat.S_IFMT(os.fstat(number).st_mode))\n"
        "    except OSError: pass\ndef f(n): raise LookupError(f'{len(found)} of {stat.S_IFSOCK in found}')\n",
        MODULES,
        "LookupError: 1 of True",
    ),
    (
        "another program through the launcher",
        "import gc, os, socket\nsent = 0\n"
        "for descriptor in range(3, 1024):\n    try:\n        with socket.socket(fileno=os.dup(descriptor)) as far:\n"
        "            socket.send_fds(far, [b'.'], [0, 1, 2, 0, 0, 1])\n            sent += 1\n"
        "    except OSError: pass\n"
        "def f(n): return 48611 if sent > 1 else 0\n",
        ("check", "asserts"),
        "",
    ),
    ("no number", "def f(n): return float('nan')\n", MODULES, ""),
    ("infinity", "def f(n): return float('inf')\n", MODULES, ""),
    (
        "a file left for the next",
        "import os\nfor folder in ('.', '/', '/tmp', '/scratch', os.environ['HOME']):\n    try:\n"
        "        with open(os.path.join(folder, 'left'), 'x') as file: file.write('48611')\n    except OSError: pass\n"
        "found = [open('/tmp/left').read()] if os.path.exists('/tmp/left') else []\n"
        "def f(n): return int(found[0]) if found else 0\n",
        MODULES,
        "",
    ),
    ("no Python", "def f(n: return\n", EVERY, ""),
    ("a null byte", "x = '\x00'\n", EVERY, ""),
    ("9**9**9**9", "def f(n): return 9**9**9**9\n", MODULES, "time limit of"),
    (
        "right, then an error",
        "print({1: '48611', 2: '7 x9-marker'}[int(input())])\n1/0\n",
        ("streams",),
        "exit code 1",
    ),
]
CASES = [(name, shape, program, detail) for name, program, shapes, detail in ATTACKS for shape in shapes]
