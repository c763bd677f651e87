"""Machine code in pieces: each is compiled once, and callers use a symbol or an address instead of a copy.

    inner       for compiled callers only, part of their machine code: share, gather, rates_of, ...
    block       like inner, but LLVM always inlines it at every call site: blocks of the equations
    piece       like inner; but for callers made under `linking`, machine code of its own
    rare        a piece that is loaded or compiled only before a call that needs it: build.address
    apart       for compiled callers only, machine code of its own, called by its address
    call        calls machine code by the address that `machine_code` returns, without a copy of it
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core.compiler.common import FLAGS, declared, uninterrupted
from fastbp.core.compiler.decorators import Dispatcher, compiled
from fastbp.core.compiler.numba import (
    PASSES,
    Compiler,
    JITCodeLibrary,
    PassManager,
    global_compiler_lock,
)

_linking = False  # whether code compiled now calls pieces by symbol, instead of containing them


class _Inner(Dispatcher):
    """A function for compiled callers; while linking, its `linked` replaces it, if there is one."""

    make_linked: Callable[[], _Inner] | None = None

    @functools.cached_property
    def linked(self) -> _Inner:
        return self if self.make_linked is None else self.make_linked()

    def _now(self) -> _Inner:
        return self.linked if _linking else self

    def get_call_template(self, args: Any, kws: Any) -> Any:
        # Numba would compile again for each constant argument.
        return super(_Inner, self._now()).get_call_template([types.unliteral(kind) for kind in args], kws)

    def get_overload(self, sig: Any) -> Any:
        return super(_Inner, self._now()).get_overload(sig)

    def __call__(self, *arguments: Any) -> Any:  # without an entry point for Python, Numba would crash
        raise TypeError(f"{self.__name__} can only be called from compiled code")


class _Part(JITCodeLibrary):  # type: ignore[misc]  # Numba has no types
    """Code that is only linked into other code, where it is optimised and turned into machine code.

    Numba would do both here first, and again for each caller up to the outermost. Such a function has no address and no
    environment: it cannot be passed as a value, print, or raise errors with run-time values.
    """

    class codegen:  # noqa: N801  # Numba asks for it only to detect missing machine code
        set_env = staticmethod(lambda *_: None)

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0


class _FewPasses(Compiler):  # type: ignore[misc]  # Numba has no types
    """Numba's passes that such code needs: it has no closures, literals, array expressions or `with`."""

    def define_pipelines(self) -> list[Any]:
        passes = PassManager("few")
        for kind in PASSES:
            passes.add_pass(kind, kind.name())
        passes.finalize()
        return [passes]


class _PartCompiler(_FewPasses):
    def __init__(self, typing: Any, target: Any, library: Any, *rest: Any):
        super().__init__(typing, target, library or _Part(target.codegen(), "part"), *rest)


NO_ENTRY = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _part(function: Callable[..., Any], forceinline: bool = False) -> Any:
    dispatcher = numba.njit(**FLAGS, **NO_ENTRY, forceinline=forceinline, pipeline_class=_PartCompiler)(function)
    dispatcher.__class__ = _Inner
    return dispatcher


def _called(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Return the function, with a separate name for one of the ways in which it is compiled.

    Numba distinguishes two functions of equal name and types by a number that each process counts. If LLVM loads two
    machine codes of one name, it uses the first for both. So code with linked pieces, kept by another process, could
    replace code that contains them.
    """
    other = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__,
                         function.__closure__)
    other.__module__, other.__qualname__ = function.__module__, f"{function.__qualname__}_{what}"
    return other


def inner(function: Callable[..., Any], forceinline: bool = False) -> Any:
    """Compile for one thread and only for compiled callers: no entry point for Python, and nothing on disk."""
    dispatcher = _part(function, forceinline)
    dispatcher.make_linked = functools.partial(_part, _called(function, "linking"), forceinline)
    return dispatcher


def block(function: Callable[..., Any]) -> Any:
    """Compile like `inner`, but LLVM always inlines it at every call site."""
    return inner(function, forceinline=True)  # inherited by callees that do not set it


def apart(function: Callable[..., Any]) -> Any:
    """Compile for one thread and for compiled callers that know it by its `machine_code` only."""
    dispatcher = compiled(function, **NO_ENTRY, pipeline_class=_FewPasses)
    dispatcher.__class__ = _Inner
    return dispatcher


def piece(function: Callable[..., Any], rare: bool = False) -> Any:
    """Compile like `inner`; but callers made under `linking` call its own machine code, set by `link`, by a symbol.

    So compilation is split into parts that two processes can share. A piece returns nothing to its callers and raises
    nothing.
    """
    name = function.__name__

    @intrinsic
    def by_symbol(typing, arguments):
        kinds = tuple(arguments)
        symbol = _symbol(name, kinds)
        if symbol not in _linked:  # LLVM would end the process
            raise numba.TypingError(f"{name}{kinds} is called but was not linked")

        def emit(context, builder, signature, values):
            kind = context.call_conv.get_function_type(types.none, kinds)
            if rare:
                code = builder.inttoptr(_held(builder, symbol), kind.as_pointer())
            else:
                code = declared(builder.module, kind, symbol)
            return _call(context, builder, code, kinds, values[0])

        return types.void(arguments), emit

    def stub(*arguments):
        by_symbol(arguments)

    stub.__qualname__ = f"{name}_by_symbol"  # as in `_called`
    dispatcher = _part(function)
    dispatcher.make_linked = functools.partial(_part, stub, forceinline=True)
    dispatcher.alone = apart(_called(function, "alone"))
    return dispatcher


def rare(function: Callable[..., Any]) -> Any:
    """A piece that few callers need. They read its address from a cell, which `fill` must set before they run."""
    return piece(function, rare=True)


def _held(builder: Any, symbol: str) -> Any:
    """Emit code that reads the address of a rare piece's machine code from its cell."""
    module = builder.module
    cell = module.globals.get(symbol) or ir.GlobalVariable(module, ir.IntType(64), symbol)
    return builder.load(cell)


_cells: dict[str, np.ndarray] = {}  # by symbol


def reserve(piece: Any, signature: tuple[Any, ...]) -> None:
    """Do what `link` does for a rare piece, whose callers run only after `fill`."""
    symbol = _symbol(piece.__name__, signature)
    if symbol not in _cells:  # callers hold the address of the first one
        _cells[symbol] = np.zeros(1, np.int64)
        llvm.add_symbol(symbol, _cells[symbol].ctypes.data)
        _linked.add(symbol)


def is_filled(piece: Any, signature: tuple[Any, ...]) -> bool:
    """Whether the callers of a rare piece can run."""
    return bool(_cells[_symbol(piece.__name__, signature)][0])


def fill(piece: Any, signature: tuple[Any, ...]) -> None:
    """Load or compile a rare piece that is reserved."""
    cell = _cells[_symbol(piece.__name__, signature)]
    with linking():
        cell[0] = cell[0] or machine_code(piece.alone, signature)


_linked: set[str] = set()  # symbols of pieces whose addresses LLVM knows


def _symbol(name: str, kinds: tuple[Any, ...]) -> str:
    return f"fastbp {name}{kinds}"


def link(piece: Any, signature: tuple[Any, ...], address: int | None = None) -> None:
    """Load or compile a piece for arguments of these types, for callers made under `linking`; it calls pieces linked
    before.

    With another address the callers can be compiled and kept, but not run.
    """
    symbol = _symbol(piece.__name__, signature)
    if address is None:
        with linking():
            address = machine_code(piece.alone, signature)
    llvm.add_symbol(symbol, address)
    _linked.add(symbol)


@contextlib.contextmanager
def linking() -> Iterator[None]:
    """Let code compiled in this block call pieces by symbol. No other thread compiles meanwhile."""
    global _linking
    with global_compiler_lock:
        before, _linking = _linking, True
        try:
            yield
        finally:
            _linking = before


def machine_code(dispatcher: Any, signature: tuple[Any, ...]) -> int:
    """Return the address of a serial function's machine code for these types; it is loaded or compiled now.

    A driver that calls its blocks by address (`call`) contains none of their code: it is compiled once, and not again
    for every parallel loop. That takes 0.3 s per driver instead of 4 to 8.
    """
    with uninterrupted():
        dispatcher.compile(signature)
        compiled = dispatcher.overloads[signature]
        return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@intrinsic
def call(typing, address, arguments):
    """Call the function at `address`, a `machine_code`, with a tuple of arguments of exactly its types; no result."""
    kinds = tuple(arguments)

    def emit(context, builder, signature, values):
        function = context.call_conv.get_function_type(types.none, kinds).as_pointer()
        return _call(context, builder, builder.inttoptr(values[0], function), kinds, values[1])

    return types.void(types.int64, arguments), emit


def _call(context: Any, builder: Any, function: Any, kinds: tuple[Any, ...], arguments: Any) -> Any:
    context.call_conv.call_function(builder, function, types.none, kinds,
                                    [builder.extract_value(arguments, i) for i in range(len(kinds))])
    return context.get_dummy_value()
