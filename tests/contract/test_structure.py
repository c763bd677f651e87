"""What the package promises to its readers: it stays small; in the core, short lists of arguments everywhere, and short
functions in the engine."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

import fastbp.core

CORE = Path(fastbp.core.__path__[0])
MOST_ARGUMENTS, MOST_LINES = 8, 45
# Lines of code in fastbp/. Whoever raises the number says in the commit's message what the package gains by it.
BUDGET = 17_200
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


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


def code_lines(source):
    """How many lines hold code: neither blank, nor a comment, nor a docstring."""
    lines = {line for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in NO_CODE
             for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_the_package_keeps_to_its_budget():
    package = Path(fastbp.__file__).parent
    assert sum(code_lines(file.read_text(encoding="utf-8")) for file in package.rglob("*.py")) <= BUDGET


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
    code = ('"""Says what.\n\nAnd why."""\n\n# why\nx = """a\n\nb"""  # two\n\n\n'
            'def f():\n    """It."""\n    return (1,\n\n            2)\n')
    assert code_lines(code) == 3 + 3
    assert too_long("def f():\n" + "    pass\n" * 45) == ["f"] and too_long("def f():\n" + "    pass\n" * 44) == []
