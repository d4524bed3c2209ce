"""The text of tests as a tree in which each test is counted, and the names in it that are the program's.

A test is an assertion, or a call of a function that the tests define themselves, at the top of the module or of one
of the functions to `enter`; in a `for` each turn is one. Statements with other blocks (`try`, `with`, `while`) are one
test where they hold an assertion: what they do about an exception is theirs.
"""

import ast
import builtins
import symtable
import sys

COUNT = "__count_test__"


class Tests:
    """Instrumented tests.

    tree        the module; it calls `COUNT`, with an index into `statements`, for a context manager around each test
    statements  of the tests, for their text
    known       how many tests there are, None where a loop makes it unknown
    """

    def __init__(self, tree, enter):
        self.tree = tree
        self.statements = []
        self.known: int | None = 0
        self._own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        self._enter = enter
        tree.body = self._block(tree.body)
        ast.fix_missing_locations(tree)

    def _block(self, body):
        return [self._statement(statement) for statement in body]

    def _statement(self, statement):
        if isinstance(statement, ast.FunctionDef) and statement.name in self._enter:
            statement.body = self._block(statement.body)
        elif isinstance(statement, ast.For | ast.If):
            known = self.known
            statement.body = self._block(statement.body)
            statement.orelse = self._block(statement.orelse)
            if known != self.known:
                self.known = None
        elif self._is_test(statement):
            if self.known is not None:
                self.known += 1
            return self._counted(statement)
        return statement

    def _is_test(self, statement):
        if isinstance(statement, ast.Assert):
            return True
        if isinstance(statement, ast.Expr):
            call = statement.value
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                return call.func.id in self._own - self._enter
        if isinstance(statement, ast.Try | ast.With | ast.While):
            return any(isinstance(node, ast.Assert) for node in ast.walk(statement))
        return False

    def _counted(self, statement):
        self.statements.append(statement)
        manager = ast.Call(ast.Name(COUNT, ast.Load()), [ast.Constant(len(self.statements) - 1)], [])
        counted = ast.With([ast.withitem(manager)], [statement])
        return ast.copy_location(counted, statement)


def free_names(text):
    """Names that a module reads and does not bind: (those to look for elsewhere, modules of the standard library).

    A free name with an attribute that is a module of the standard library (`sys.maxsize`) is that module; and the
    built-in names are left out, so that no program can redefine what its tests rely on.
    """
    read: set = set()
    bound: set = set()
    tables = [symtable.symtable(text, "tests", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table.get_type() != "module" and not symbol.is_global():
                continue
            if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
                bound.add(symbol.get_name())
            elif symbol.is_referenced():
                read.add(symbol.get_name())
    free = {name for name in read - bound if not hasattr(builtins, name)}
    attributes = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    bases = {node.id for node in attributes if isinstance(node, ast.Name)}
    modules = free & bases & set(sys.stdlib_module_names)
    return free - modules, modules


def built_in_under_test(tree):
    """The one built-in name that the tests' statements call, for tasks that ask for a function `sum`; None otherwise.

    It follows from the tests alone. What the tests' own functions call does not count, nor does the head of a loop.
    """
    found = set()
    pending = list(tree.body)
    while pending:
        statement = pending.pop()
        if isinstance(statement, ast.For):
            pending += statement.body
        elif isinstance(statement, ast.Assert | ast.Expr):
            calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
            found |= {call.id for call in calls if isinstance(call, ast.Name) and hasattr(builtins, call.id)}
    return found.pop() if len(found) == 1 else None
