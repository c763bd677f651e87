"""What `import fastbp` does beyond `import numba`: little, so that a program may import it and not use it."""

import ast
import graphlib
import importlib.util
import json
from pathlib import Path

import pytest
from rig import python

import fastbp

OPTIONAL = {"h5py", "jax", "matplotlib", "onnx", "pandas", "pyarrow", "safetensors", "scipy", "shtab", "sklearn",
            "torch", "tqdm"}

# Numba itself imports SciPy where it is installed, so what counts is what fastbp adds.
SCRIPT = """
import json, os, sys, threading
import numba
from numba.core import event

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else None

before, tasks_before = set(sys.modules), tasks()
compiled = event.RecordingListener()
event.register("numba:compile", compiled)
import fastbp
print(json.dumps(dict(compiled=len(compiled.buffer), python_threads=threading.active_count(),
                      tasks=[tasks_before, tasks()], modules=sorted(set(sys.modules) - before))))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """What the script saw, with an empty cache of machine code."""
    cache = str(tmp_path_factory.mktemp("cache"))
    done = python(SCRIPT, NUMBA_CACHE_DIR=cache)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout) | {"cached": [file.name for file in Path(cache).rglob("*.nb?")]}


def test_the_import_compiles_nothing(imported):
    assert imported["compiled"] == 0
    assert imported["cached"] == []


def test_the_import_starts_no_thread(imported):
    assert imported["python_threads"] == 1
    before, after = imported["tasks"]
    assert before == after


def test_the_import_needs_no_optional_package(imported):
    assert "fastbp.training.trainer" in imported["modules"]
    assert not OPTIONAL & {name.split(".")[0] for name in imported["modules"]}


def test_the_core_imports_nothing_above_it():
    core = Path(fastbp.__file__).parent / "core"
    for file in core.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert all(name.startswith("fastbp.core.") for name in names if name.split(".")[0] == "fastbp"), file


def modules_used(text):
    """Modules of fastbp that a source imports, for types too; of the package itself only its version."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("fastbp."))
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "fastbp":
            names = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if is_module(name) else node.module for name in names)


def test_imports_point_one_way():
    """No module imports one that needs it, not even for a type: each can be read after those below it."""
    package = Path(fastbp.__file__).parent
    used = {}
    for file in package.rglob("*.py"):
        name = ".".join(("fastbp", *file.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        used[name] = set(modules_used(file.read_text(encoding="utf-8"))) - {"fastbp", name}
    order = list(graphlib.TopologicalSorter(used).static_order())  # raises CycleError
    assert order.index("fastbp.core.engine") < order.index("fastbp.network") < order.index("fastbp.training.trainer")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(used | {"fastbp.inputs": {"fastbp.training.trainer"}}).prepare()


DOOR = "core/compiler/numba.py"
PUBLIC = {"numba", "numba.types", "numba.extending", "numba.typed"}


def imported_from_numba(text):
    """Modules of Numba that a source names in an import, or as an attribute: numba.core."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "numba")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.split(".")[0] == "numba":
            yield node.module
            yield from (name for name in (f"{node.module}.{name.name}" for name in node.names) if is_module(name))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "numba":
            yield from (name for name in [f"numba.{node.attr}"] if is_module(name))


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # it would lie in what is no package
        return False


@pytest.mark.parametrize("text", ["import numba.core.cgutils", "import numba as nb, numba.core as core",
                                  "from numba.core import config", "from numba import core",
                                  "from numba.np import arrayobj", "def f():\n    from numba.misc import special",
                                  "import numba\nnumba.core.cgutils"])
def test_internals_are_recognised(text):
    assert set(imported_from_numba(text)) - PUBLIC


def test_only_one_file_imports_internals_of_numba():
    """The others use what Numba documents: a change of its internals is mended in one file."""
    root = Path(fastbp.__file__).parent
    internal = {file.relative_to(root).as_posix(): set(imported_from_numba(file.read_text(encoding="utf-8"))) - PUBLIC
                for file in root.rglob("*.py")}
    assert [name for name, modules in internal.items() if modules] == [DOOR]
