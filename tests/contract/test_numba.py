"""What fastbp relies on in Numba that Numba promises nobody: one short test each, which says what broke.

These tests need nothing of fastbp to be importable: they read which names it takes from its one door to Numba's
internals, core/compiler/numba.py, and use them as it does.
"""

import ast
import ctypes
import functools
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import (
    NativeValue,
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    models,
    register_model,
    unbox,
)

DOOR = Path(importlib.util.find_spec("fastbp").origin).parent / "core" / "compiler" / "numba.py"
INTERNALS = {name.name: node.module for node in ast.walk(ast.parse(DOOR.read_text(encoding="utf-8")))
             if isinstance(node, ast.ImportFrom) and node.module.startswith("numba") for name in node.names}
NO_ENTRY = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)
INT = (types.int64,)


def internal(name):
    return getattr(importlib.import_module(INTERNALS[name]), name)


def promise(what):
    """A test that fails with the sentence: Numba, in this version, no longer does what fastbp relies on."""
    def of(test):
        @functools.wraps(test)
        def run(*arguments, **fixtures):
            try:
                test(*arguments, **fixtures)
            except Exception as error:
                raise AssertionError(f"Numba {numba.__version__} no longer {what}") from error
        return run
    return of


def twice(x):
    return 2 * x


def thrice(x):
    return 3 * x


def fill(x):
    x[0] = 42


VECTOR = types.float64[::1]


# Names.


@pytest.mark.parametrize("name", INTERNALS)
def test_internal_is_where_it_was(name):
    try:
        internal(name)
    except (ImportError, AttributeError) as error:
        raise AssertionError(f"Numba {numba.__version__} no longer has {INTERNALS[name]}.{name}") from error


@pytest.mark.parametrize("name", ["CACHE_DIR", "CPU_FEATURES", "CPU_NAME", "DISABLE_JIT", "NUMBA_NUM_THREADS"])
def test_setting_has_its_name(name):
    try:
        assert hasattr(internal("config"), name) and numba.config is internal("config")
    except AssertionError as error:
        raise AssertionError(f"Numba {numba.__version__} no longer has the setting numba.config.{name}") from error


@promise("reads the settings CACHE_DIR, CPU_NAME and CPU_FEATURES from variables NUMBA_...")
def test_settings_come_from_the_environment():
    given = {"CACHE_DIR": "a", "CPU_NAME": "b", "CPU_FEATURES": "c"}
    script = f"from numba.core import config; print(*(getattr(config, name) for name in {list(given)}))"
    environment = os.environ | {f"NUMBA_{name}": value for name, value in given.items()}
    printed = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert printed.split() == ["a", "b", "c"]


@promise("raises its TypingError, a NumbaError, where an intrinsic did")
def test_typing_errors_reach_the_caller():
    typing_error = numba.TypingError
    assert issubclass(typing_error, numba.NumbaError)

    @intrinsic
    def refuse(typing, x):
        raise typing_error("refused on purpose")

    with pytest.raises(typing_error, match="refused on purpose"):
        numba.njit(lambda x: refuse(x))(1)


@promise("has a compiler lock that its thread may take again and that keeps other threads out")
def test_compiler_lock():
    lock, came = internal("global_compiler_lock"), threading.Event()

    def enter():
        with lock:
            came.set()

    thread = threading.Thread(target=enter)
    with lock, lock:
        thread.start()
        assert not came.wait(0.1)
    thread.join(10)
    assert came.is_set()


# Dispatchers: what njit returns.


def dispatcher_of(function, kind=None, **options):
    """A compiled function, made one of a subclass `kind` of its class."""
    dispatcher = numba.njit(**options)(function)
    if kind is not None:
        dispatcher.__class__ = kind
    return dispatcher


def address_of(dispatcher, signature):
    compiled = dispatcher.overloads[signature]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def subclass(**methods):
    return type("Subclass", (internal("CPUDispatcher"),), methods)


@promise("makes of a function a CPUDispatcher, which is a Dispatcher, has its name and holds it as py_func")
def test_dispatcher_class():
    dispatcher = numba.njit(twice)
    assert type(dispatcher) is internal("CPUDispatcher")
    assert (dispatcher.__name__, dispatcher.py_func) == ("twice", twice)


@promise("lets a dispatcher take a subclass as its class and attributes of that")
def test_dispatcher_takes_a_subclass():
    dispatcher = dispatcher_of(twice, subclass(linked=None))
    dispatcher.linked = "another"
    assert (dispatcher(21), dispatcher.linked) == (42, "another")


@promise("asks the method `compile` of a dispatcher's class, with a tuple of types, when Python calls it")
def test_dispatcher_compile_is_asked():
    asked = []

    def compile_(self, sig):
        asked.append(sig)
        return super(kind, self).compile(sig)

    kind = subclass(compile=compile_)
    assert dispatcher_of(twice, kind)(21) == 42
    assert asked == [INT]


@promise("lets a subclass of its dispatcher refuse calls from Python by __call__")
def test_dispatcher_call_is_asked():
    assert dispatcher_of(twice, subclass(__call__=lambda self, *arguments: "refused"))(21) == "refused"


@promise("keeps what a dispatcher compiled in `overloads`, by the tuple of its arguments' types")
def test_overloads_by_signature():
    dispatcher = numba.njit(twice)
    assert INT not in dispatcher.overloads
    dispatcher.compile(INT)
    assert list(dispatcher.overloads) == [INT]


@promise("gives the address of machine code by library.get_pointer_to_function(fndesc.llvm_func_name)")
def test_address_of_machine_code():
    dispatcher = numba.njit(**NO_ENTRY)(twice)
    dispatcher.compile(INT)
    address = address_of(dispatcher, INT)
    assert isinstance(address, int) and address != 0
    # Numba's convention: a status is returned, the result is written where the first argument points, then its error.
    result, error = ctypes.c_int64(), ctypes.c_void_p()
    call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)
    assert (call(ctypes.addressof(result), ctypes.addressof(error), 21), result.value) == (0, 42)


@promise("asks a dispatcher's get_call_template for its callers, with their arguments' types, constants as literals")
def test_call_template_is_asked():
    asked = []

    def get_call_template(self, args, kws):
        asked.append(tuple(args))
        return super(kind, self).get_call_template([types.unliteral(arg) for arg in args], kws)

    kind = subclass(get_call_template=get_call_template)
    dispatcher = dispatcher_of(twice, kind)
    assert numba.njit(lambda x: dispatcher(x) + dispatcher(1))(20) == 42
    assert any(isinstance(args[0], types.Literal) for args in asked) and INT in asked
    assert list(dispatcher.overloads) == [INT]


@promise("lets get_call_template and get_overload give a caller another dispatcher's machine code")
def test_another_dispatcher_stands_in():
    class Stand(internal("CPUDispatcher")):
        linked = None

        def get_call_template(self, args, kws):
            return super(Stand, self.linked or self).get_call_template(args, kws)

        def get_overload(self, sig):
            return super(Stand, self.linked or self).get_overload(sig)

    dispatcher = dispatcher_of(twice, Stand)
    dispatcher.linked = dispatcher_of(thrice, Stand)
    assert numba.njit(lambda x: dispatcher(x))(14) == 42


@promise("leaves out the entry points for Python and C where no_cpython_wrapper and no_cfunc_wrapper say so")
@pytest.mark.parametrize("flags, wrappers", [({}, 2), (NO_ENTRY, 0)], ids=["default", "no entry"])
def test_no_entry_flags(flags, wrappers):
    dispatcher = numba.njit(**flags)(twice)
    dispatcher.compile(INT)
    library, fndesc = dispatcher.overloads[INT].library, dispatcher.overloads[INT].fndesc
    names = {function.name for function in library.get_defined_functions()}
    assert fndesc.llvm_func_name in names
    assert len(names & {fndesc.llvm_cpython_wrapper_name, fndesc.llvm_cfunc_wrapper_name}) == wrappers


@promise("inlines a function into its callers where forceinline=True says so")
def test_forceinline():
    @numba.njit(forceinline=True)
    def inlined(x):
        total = 0
        for i in range(x):  # too much for LLVM to inline it of its own accord, were it told not to
            total += i ^ x
        return total

    caller = numba.njit(lambda x: inlined(x) + inlined(x + 1))
    caller.compile(INT)
    library = inlined.overloads[INT].library
    assert "alwaysinline" in library.get_llvm_str()
    name = inlined.overloads[INT].fndesc.llvm_func_name
    body = str(caller.overloads[INT].library.get_function(caller.overloads[INT].fndesc.llvm_func_name))
    assert name not in body


@promise("leaves a function out of line whose LLVM function has the attribute noinline")
def test_noinline():
    @intrinsic
    def out_of_line(typing):
        def emit(context, builder, signature, arguments):
            builder.function.attributes.add("noinline")
            return context.get_dummy_value()

        return types.void(), emit

    @numba.njit
    def apart(x):
        out_of_line()
        return 2 * x

    caller = numba.njit(lambda x: apart(x))
    assert caller(21) == 42
    compiled = caller.overloads[INT]
    body = str(compiled.library.get_function(compiled.fndesc.llvm_func_name))
    assert apart.overloads[INT].fndesc.llvm_func_name in body


@promise("takes ParallelOptions as they are, at each compilation: only prange becomes parallel")
def test_parallel_options_are_an_object():
    kinds = ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")
    only_prange = internal("ParallelOptions")(dict.fromkeys(kinds, False) | {"prange": True})

    @numba.njit(parallel=only_prange)
    def double(x, y):
        for i in numba.prange(x.size):
            x[i] *= 2
        y[:] = 1  # parallel, too, where all is on

    for number in (types.float32, types.float64):
        signature = (number[::1], number[::1])
        double.compile(signature)
        assert len(re.findall(r"call .*@numba_parallel_for\(", double.inspect_llvm(signature))) == 1


# The cache on disk.


@promise("asks what was assigned to a dispatcher's _cache for machine code, and gives it what it then compiled")
def test_dispatcher_asks_its_cache():
    asked, kept = [], {}

    class Recorded(internal("NullCache")):
        def load_overload(self, sig, target_context):
            asked.append((sig, target_context))
            return kept.get(sig)

        def save_overload(self, sig, data):
            kept[sig] = data._replace(metadata=None)  # as of one that comes from disk

    dispatchers = numba.njit(twice), numba.njit(twice)
    for dispatcher in dispatchers:
        dispatcher._cache = Recorded()
        assert dispatcher(21) == 42
        assert asked.pop() == (INT, dispatcher.targetctx)
    assert [sum(dispatcher.stats.cache_misses.values()) for dispatcher in dispatchers] == [1, 0]
    assert [sum(dispatcher.stats.cache_hits.values()) for dispatcher in dispatchers] == [0, 1]


@promise("keeps a dispatcher's _cache as an ordinary attribute: without it, that of its class counts")
def test_a_cache_made_when_it_is_asked_for():
    class Lazy(internal("CPUDispatcher")):
        @functools.cached_property
        def _cache(self):
            made.append(self)
            return internal("NullCache")()

    made, dispatcher = [], numba.njit(twice)
    dispatcher.__class__ = Lazy
    del dispatcher._cache
    assert not made and dispatcher(21) == 42 and made == [dispatcher]


@promise("has a NullCache without a path, which neither loads nor saves")
def test_null_cache():
    cache = internal("NullCache")()
    assert cache.cache_path is None
    assert cache.load_overload(INT, None) is None
    cache.save_overload(INT, None)


@promise("makes, of a function, a FunctionCache with a cache_path and a _cache_file, an IndexDataCacheFile")
def test_function_cache_has_a_file(cache_folder):
    cache = internal("FunctionCache")(twice)
    assert Path(cache.cache_path).is_relative_to(cache_folder)
    assert type(cache._cache_file) is internal("IndexDataCacheFile")
    assert cache._cache_file._cache_path == cache.cache_path


@promise("raises RuntimeError for a FunctionCache where no folder can be written")
def test_function_cache_without_a_folder(cache_folder, monkeypatch):
    monkeypatch.setattr(internal("config"), "CACHE_DIR", "/dev/null/there is none")
    monkeypatch.setattr(internal("config"), "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    with pytest.raises(RuntimeError, match="cannot cache function"):
        internal("FunctionCache")(twice)


@promise("has in FunctionCache._index_key(sig, codegen) a tuple, the same in every process, to which more can be added")
def test_index_key(cache_folder):
    cache, dispatcher = internal("FunctionCache")(twice), numba.njit(twice)
    key = cache._index_key(INT, dispatcher.targetctx.codegen())
    assert isinstance(key, tuple) and INT in key
    assert repr(key) == repr(internal("FunctionCache")(twice)._index_key(INT, dispatcher.targetctx.codegen()))
    assert repr(key) != repr(internal("FunctionCache")(fill)._index_key(INT, dispatcher.targetctx.codegen()))


@promise("asks methods of FunctionCache and of its file that are overridden: _index_key, load, save and flush")
def test_function_cache_asks_what_is_overridden(cache_folder):
    asked, kept = [], {}

    class File(internal("IndexDataCacheFile")):
        def load(self, key):
            asked.append("load")
            return pickle.loads(kept[key]) if key in kept else None

        def save(self, key, data):
            asked.append("save")
            kept[key] = self._dump(data)

        def flush(self):
            asked.append("flush")
            kept.clear()

    class Keyed(internal("FunctionCache")):
        def __init__(self, function):
            super().__init__(function)
            self._cache_file.__class__ = File

        def _index_key(self, sig, codegen):
            return (*super()._index_key(sig, codegen), "more")

        def load_overload(self, sig, target_context):
            return self._load_overload(sig, target_context)

    for _ in range(2):
        dispatcher = numba.njit(twice)
        dispatcher._cache = Keyed(twice)
        assert dispatcher(21) == 42
    assert asked == ["load", "save", "load"]
    assert [key[-1] for key in kept] == ["more"]
    dispatcher.recompile()
    assert asked[3] == "flush"


@promise("names and stamps files as IndexDataCacheFile's private attributes and methods say")
def test_file_attributes(cache_folder):
    file, again = (internal("FunctionCache")(twice)._cache_file for _ in range(2))
    assert file._version == numba.__version__
    assert "twice" in file._index_name
    assert repr(file._source_stamp) == repr(again._source_stamp) and " at 0x" not in repr(file._source_stamp)
    assert Path(file._data_path("name")) == Path(file._cache_path, "name")
    assert file._data_name(7) == file._data_name_pattern.replace("{number:d}", "7") != file._data_name_pattern


@promise("has IndexDataCacheFile._dump, whose bytes pickle.loads reads")
def test_file_dump(cache_folder):
    assert pickle.loads(internal("FunctionCache")(twice)._cache_file._dump({"a": (1, 2)})) == {"a": (1, 2)}


@promise("has IndexDataCacheFile._open_for_write, which writes a file whole or not at all")
def test_file_open_for_write(cache_folder):
    file, path = internal("FunctionCache")(twice)._cache_file, cache_folder / "content"
    with pytest.raises(ZeroDivisionError), file._open_for_write(str(path)) as out:
        out.write(b"half")
        raise ZeroDivisionError
    assert list(cache_folder.glob("content*")) == []
    with file._open_for_write(str(path)) as out:
        out.write(b"whole")
    assert path.read_bytes() == b"whole"


@promise("keeps functions without entry points on disk, and gives the address of what it loaded")
def test_no_entry_is_kept(cache_folder):
    for loaded in range(2):
        dispatcher = numba.njit(**NO_ENTRY)(twice)
        dispatcher._cache = internal("FunctionCache")(twice)
        dispatcher.compile(INT)
        assert sum(dispatcher.stats.cache_hits.values()) == loaded
        assert address_of(dispatcher, INT) != 0


LOADED = """
import sys
import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

class Cache(FunctionCache):
    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)
        return self._load_overload(sig, target_context)

@numba.njit
def behind(x):  # counts one user more of an array
    return x[1:]

behind._cache = Cache(behind.py_func)
print(*behind(np.array([1, 42])), sum(behind.stats.cache_hits.values()), "numba.np.arraymath" in sys.modules)
"""


@promise("loads machine code after rtsys.initialize alone, without reading all implementations that a compiler needs")
def test_runtime_is_initialized_for_loaded_code(tmp_path):
    script = tmp_path / "loaded.py"
    script.write_text(LOADED, encoding="utf-8")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    compiled, loaded = (subprocess.check_output([sys.executable, str(script)], env=environment, text=True).split()
                        for _ in range(2))
    assert compiled == ["42", "0", "True"]
    assert loaded == ["42", "1", "False"]


# Compilation: a library that is only linked into others.


@promise("makes a function's compiler with pipeline_class(typing, target, library, ...), without a library")
def test_pipeline_class_is_given_a_library():
    library_class, given = internal("JITCodeLibrary"), []

    class Pipeline(internal("Compiler")):
        def __init__(self, typing, target, library, *rest):
            given.append(library)
            super().__init__(typing, target, library or library_class(target.codegen(), "part"), *rest)

    dispatcher = numba.njit(pipeline_class=Pipeline)(twice)
    assert dispatcher(21) == 42
    assert given == [None]
    assert type(dispatcher.overloads[INT].library) is library_class and dispatcher.overloads[INT].library.name == "part"


def part_class(asked):
    """A library that neither optimises nor makes machine code, as fastbp's; appends to `asked` what Numba asks it."""
    class Part(internal("JITCodeLibrary")):
        class codegen:  # noqa: N801  # Numba's name
            set_env = staticmethod(lambda *_: asked.append("set_env"))

        def _optimize_final_module(self):
            asked.append("optimize")

        def _finalize_final_module(self):
            asked.append("finalize")
            self._finalize_dynamic_globals()
            self._finalized = True

        def get_pointer_to_function(self, name):
            asked.append("pointer")
            self._ensure_finalized()
            return 0

    return Part


def pipeline_with(part):
    class Pipeline(internal("Compiler")):
        def __init__(self, typing, target, library, *rest):
            super().__init__(typing, target, library or part(target.codegen(), "part"), *rest)

    return Pipeline


@promise("asks a library's _optimize_final_module, _finalize_final_module, get_pointer_to_function and codegen.set_env")
def test_methods_of_a_library_are_asked():
    asked = []
    numba.njit(pipeline_class=pipeline_with(part_class(asked)), **NO_ENTRY)(twice).compile(INT)
    assert asked.index("optimize") < asked.index("finalize")
    assert set(asked) == {"optimize", "finalize", "pointer", "set_env"}


@promise("links a library without machine code, whose _finalized is set, into a caller's")
def test_a_part_is_linked_into_callers():
    part = numba.njit(pipeline_class=pipeline_with(part_class([])), **NO_ENTRY)(twice)
    between = numba.njit(pipeline_class=pipeline_with(part_class([])), **NO_ENTRY)(lambda x: part(x) + 1)
    assert numba.njit(lambda x: between(x) + part(x))(10) == 41


@promise("has CodeLibrary._finalize_dynamic_globals, which finds addresses that cannot be kept on disk")
def test_dynamic_globals_are_found():
    large = np.zeros(200_000)  # too large to be frozen into the code
    part = numba.njit(pipeline_class=pipeline_with(part_class([])), **NO_ENTRY)(lambda i: large[i])
    part.compile(INT)
    assert part.overloads[INT].library.has_dynamic_globals


# Code that is emitted: contexts, arrays, pointers.


@promise("gives the type of a compiled function by call_conv.get_function_type and calls it by call_conv.call_function")
def test_call_by_address():
    @intrinsic
    def call(typing, address, arguments):
        kinds = tuple(arguments)

        def emit(context, builder, signature, values):
            kind = context.call_conv.get_function_type(types.none, kinds).as_pointer()
            context.call_conv.call_function(builder, builder.inttoptr(values[0], kind), types.none, kinds,
                                            [builder.extract_value(values[1], i) for i in range(len(kinds))])
            return context.get_dummy_value()

        return types.void(types.int64, arguments), emit

    callee = numba.njit(**NO_ENTRY)(fill)
    callee.compile((VECTOR,))
    x = np.zeros(1)
    numba.njit(lambda address, x: call(address, (x,)))(address_of(callee, (VECTOR,)), x)
    assert x[0] == 42


@promise("types a compiled function by typing_context, gives its code by get_function and takes it by add_linking_libs")
def test_call_while_code_is_emitted():
    callee = numba.njit(twice)

    @intrinsic
    def call(typing, x):
        def emit(context, builder, signature, values):
            kind = context.typing_context.resolve_value_type(callee)
            typed = context.typing_context.resolve_function_type(kind, signature.args, {})
            code = context.get_function(kind, typed)
            context.add_linking_libs(getattr(code, "libs", ()))
            return code(builder, values)

        return x(x), emit

    assert numba.njit(lambda x: call(x) + 1.0)(20.5) == 42


@promise("finds symbols, functions and numbers, that llvmlite's add_symbol gave an address, for code from disk, too")
def test_symbols_are_resolved(cache_folder):
    number = np.array([40], np.int64)
    one = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: x + 2)
    llvm.add_symbol("fastbp contract number (int64,)", number.ctypes.data)
    llvm.add_symbol("fastbp contract function (int64,)", ctypes.cast(one, ctypes.c_void_p).value)

    @intrinsic
    def ask(typing):
        def emit(context, builder, signature, arguments):
            integer, module = ir.IntType(64), builder.module
            cell = ir.GlobalVariable(module, integer, "fastbp contract number (int64,)")
            function = ir.Function(module, ir.FunctionType(integer, [integer]), "fastbp contract function (int64,)")
            return builder.call(function, [builder.load(cell)])

        return types.int64(), emit

    def use():
        return ask()

    for loaded in range(2):
        dispatcher = numba.njit(use)
        dispatcher._cache = internal("FunctionCache")(use)
        assert (dispatcher(), sum(dispatcher.stats.cache_hits.values())) == (42, loaded)


@pytest.fixture
def builder():
    """An llvmlite builder in a function of its own."""
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "function")
    return ir.IRBuilder(function.append_basic_block("entry"))


@promise("lets compiled code read and write what a CPointer points at, by an index")
def test_pointers_can_be_indexed():
    @intrinsic
    def pointer_from(typing, address):
        def emit(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(types.float64)(address), emit

    @numba.njit
    def swap(address):
        pointer = pointer_from(address)
        pointer[0], pointer[1] = pointer[1], pointer[0]

    x = np.array([1.0, 2.0])
    swap(x.ctypes.data)
    assert x.tolist() == [2, 1]


@promise("describes arrays and pointers by layout, dtype, bitwidth, copy(ndim=...)")
def test_types_describe_themselves():
    matrix = types.float32[:, ::1]
    assert isinstance(matrix, types.Array) and (matrix.layout, matrix.dtype.bitwidth) == ("C", 32)
    assert matrix.copy(ndim=1) == types.float32[::1]
    assert types.CPointer(types.float64).dtype is types.float64


@promise("asks an object for its type by _numba_type_, and for its native value what unbox registers for that type")
def test_objects_of_ones_own():
    class Cell(types.Type):
        def __init__(self):
            super().__init__("fastbp contract cell")

    @register_model(Cell)
    class Model(models.PrimitiveModel):
        def __init__(self, manager, kind):
            super().__init__(manager, kind, ir.IntType(64).as_pointer())

    @unbox(Cell)
    def address(kind, cell, c):
        number = c.pyapi.object_getattr_string(cell, "address")
        value = c.pyapi.long_as_longlong(number)
        c.pyapi.decref(number)
        return NativeValue(c.builder.inttoptr(value, ir.IntType(64).as_pointer()), is_error=c.pyapi.c_api_error())

    @intrinsic
    def number_in(typing, cell):
        return types.int64(cell), lambda context, builder, signature, arguments: builder.load(arguments[0])

    @numba.njit
    def number(cell):
        return number_in(cell)

    memory = np.array([42])
    cell = SimpleNamespace(_numba_type_=Cell(), address=memory.ctypes.data)
    assert number(cell) == 42


@promise("asks a subclass of AttributeTemplate for the types of attributes, and takes code by lower_getattr_generic")
def test_attributes_of_a_type_of_ones_own():
    class Pair(types.Type):
        def __init__(self):
            super().__init__("fastbp contract pair")

    @register_model(Pair)
    class Model(models.PrimitiveModel):
        def __init__(self, manager, kind):
            super().__init__(manager, kind, ir.IntType(64).as_pointer())

    @infer_getattr
    class Fields(internal("AttributeTemplate")):
        key = Pair

        def generic_resolve(self, kind, name):
            return types.int64 if name == "second" else None

    @lower_getattr_generic(Pair)
    def read(context, builder, kind, pointer, name):
        return builder.load(builder.gep(pointer, [ir.IntType(64)(1)]))

    @intrinsic
    def pair_at(typing, address):
        def emit(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())

        return Pair()(types.int64), emit

    numbers = np.array([1, 42])
    assert numba.njit(lambda address: pair_at(address).second)(numbers.ctypes.data) == 42


@promise("compiles by the passes that a compiler of one's own lists")
def test_passes_of_ones_own():
    names = ("TranslateByteCode", "FixupArgs", "IRProcessing", "GenericRewrites", "InlineInlinables", "ReconstructSSA",
             "NopythonTypeInference", "PreLowerStripPhis", "IRLegalization", "NativeLowering", "NoPythonBackend")

    class Few(internal("Compiler")):
        def define_pipelines(self):
            passes = internal("PassManager")("few")
            for name in names:
                passes.add_pass(internal(name), name)
            passes.finalize()
            return [passes]

    assert numba.njit(pipeline_class=Few)(twice)(21) == 42
