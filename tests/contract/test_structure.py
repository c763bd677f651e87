"""What the core promises to its readers: short lists of arguments everywhere, short functions in the engine."""

import ast
from pathlib import Path

import pytest

import fastbp.core

CORE = Path(fastbp.core.__path__[0])
MOST_ARGUMENTS, MOST_LINES = 8, 45


def functions(source):
    """All of a source, those within others too."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def arguments(function):
    own = function.args
    return len(own.posonlyargs + own.args + own.kwonlyargs) + (own.vararg is not None) + (own.kwarg is not None)


def with_too_many_arguments(source):
    return [function.name for function in functions(source) if arguments(function) > MOST_ARGUMENTS]


def too_long(source):
    return [function.name for function in functions(source) if function.end_lineno - function.lineno + 1 > MOST_LINES]


FILES = sorted(CORE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CORE).as_posix())
def test_no_function_takes_many_arguments(file):
    """A call of many is a slip, a row of numbers a record: see fastbp.core.call."""
    assert not with_too_many_arguments(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CORE).as_posix())
def test_functions_of_the_engine_are_short(file):
    if file.name == "engine.py":
        assert not too_long(file.read_text(encoding="utf-8"))


def test_the_rules_find_what_breaks_them():
    many = "@intrinsic\ndef f(a, b, c, /, d, e, f, *, g, h, i): pass"
    assert with_too_many_arguments(many) == ["f"]
    within = "class A:\n    def f(self):\n        def g(a, b, c, d, e, f, *g, h, **i): pass\n"
    assert with_too_many_arguments(within) == ["g"]
    assert with_too_many_arguments(within.replace(", **i", "")) == []
    assert too_long("def f():\n" + "    pass\n" * 45) == ["f"] and too_long("def f():\n" + "    pass\n" * 44) == []
