"""torch's own code of a module's call, with the test of an inference in it.

`Module.__call__` stays torch's: its profiler knows the calls of modules by that code object, and
Dynamo by the function. What it calls, `Module._call_impl`, stays the same function with other code:
torch's own, compiled anew from its source, with a scope around the body where nothing open covers
the call. So no frame of ours is on the stack while a model runs: tracebacks, the lines that
warnings name and the depth of the stack are those of torch alone.
"""

from __future__ import annotations
import __future__

import ast
import copy
import inspect
import sys
from types import CodeType, FunctionType
from typing import Any

# Names that torch's code doesn't have; the strings stand for the objects that are put in. The body
# comes behind the inner `if`. An exception of a signal handler may come at any instruction, also in
# the first handler.
_FORM = """
if "warpspan current".get().covers:
    pass
else:
    warpspan_before = "warpspan current".get()
    warpspan_scope = None
    warpspan_done = False
    try:
        try:
            warpspan_scope = "warpspan switch".open(self, args, kwargs)
            if warpspan_scope is None:
                return "warpspan plain".__call__(self, *args, **kwargs)
        except BaseException as warpspan_error:
            "warpspan switch".left_by(warpspan_error, warpspan_scope, warpspan_before)
            warpspan_done = True
            raise
    except BaseException as warpspan_error:
        if not warpspan_done:
            "warpspan switch".left_by(warpspan_error, warpspan_scope, warpspan_before)
        raise
"""


def with_scope(function: FunctionType, **objects: Any) -> CodeType | None:
    """The code of a method, with a scope around its body.

    Args:
        function: a method with the parameters `self`, `*args` and `**kwargs`.
        **objects: what the added code names: `current`, the context variable that holds the scope;
            `switch`, which opens scopes, and hears of results (`returned`) and exceptions (`left_by`); and
            `plain`, the same method without a scope, for calls that pass without one.

    Returns:
        None where the source isn't there, or isn't that of the function.
    """
    former = function.__code__
    try:
        tree = ast.parse(inspect.getsource(sys.modules[function.__module__]))
    except (OSError, SyntaxError, TypeError):
        return None
    owner, _, name = function.__qualname__.rpartition(".")
    method = _only(tree, owner, name)
    if method is None or not _same(_compiled(tree, former), former):
        return None
    form = ast.parse(_FORM)
    for node in ast.walk(form):
        if hasattr(node, "lineno"):
            ast.copy_location(node, method.body[0])
    choice: Any = form.body[0]
    within = copy.deepcopy(method.body)
    choice.body = method.body
    choice.orelse[-1].body[0].body += [_Returns().visit(statement) for statement in within]
    method.body = form.body
    named = {f"warpspan {name}": value for name, value in objects.items()}
    code = _compiled(tree, former)
    return code.replace(
        co_consts=tuple(
            named.get(constant, constant) if type(constant) is str else constant
            for constant in code.co_consts
        )
    )


class _Returns(ast.NodeTransformer):
    """Has the switch hear of what a function returns."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node  # one inside returns to it

    def visit_Return(self, node: ast.Return) -> ast.Return:
        told: Any = ast.parse('"warpspan switch".returned(warpspan_scope, 0)', mode="eval").body
        for part in ast.walk(told):
            ast.copy_location(part, node)
        if node.value is not None:
            told.args[1] = node.value
        return ast.copy_location(ast.Return(told), node)


def _only(tree: ast.Module, owner: str, method: str) -> ast.FunctionDef | None:
    """A method of a class, once all is gone from a module but that and what it imports.

    CPython calls methods of imported modules by other instructions than those of objects.
    """
    found = None
    kept: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == owner:
            for part in statement.body:
                if isinstance(part, ast.FunctionDef) and part.name == method:
                    found, statement.body = part, [part]
                    kept.append(statement)
                    break
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            kept.append(statement)
    tree.body = kept
    return found


def _compiled(tree: ast.Module, former: CodeType) -> CodeType:
    """The code of the only method there is."""
    future = former.co_flags & __future__.annotations.compiler_flag
    code: CodeType = compile(tree, former.co_filename, "exec", future, dont_inherit=True)
    for _ in ("class", "method"):
        code = next(one for one in code.co_consts if isinstance(one, CodeType))
    return code


def _same(one: Any, other: Any) -> bool:
    """Whether two constants are equal; code is where it does the same on the same lines."""
    if not isinstance(one, CodeType) or not isinstance(other, CodeType):
        return type(one) is type(other) and bool(one == other)
    return (
        all(
            getattr(one, name) == getattr(other, name)
            for name in (
                "co_code",
                "co_names",
                "co_varnames",
                "co_cellvars",
                "co_freevars",
                "co_flags",
            )
        )
        and [*one.co_lines()] == [*other.co_lines()]
        and len(one.co_consts) == len(other.co_consts)
        and all(map(_same, one.co_consts, other.co_consts))
    )
