"""fastbp.core.compiler and threads: what is cached, what a step costs beside its arithmetic, threads and forks."""

import contextlib
import importlib
import math
import os
import shutil
import signal
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import event
from numba.core.errors import TypingError
from rig import PARALLEL, SERIAL, classifier, output, python

import fastbp.core
from fastbp.core import activations, build, compiler, engine, rules
from fastbp.core.simd.memory import at
from fastbp.core.threads import processors, team

beside = importlib.import_module("fastbp.core.compiler.beside")  # of its name there is a function, too
CORE = Path(fastbp.core.__path__[0])
ANNOUNCEMENT = "fastbp compiles"


# The cache on disk.

COMPUTE = """
import sys
import numba
import numpy as np
from fastbp.core import call, compiler, equations
from fastbp.core.activations import TANH
from fastbp.core.costs import QUADRATIC, Cost
from fastbp.core.rules import N_SETTINGS, update, update_serial

layers = np.zeros((1, call.N_COLUMNS), np.int64)
for column, value in dict(N_IN=1, N_OUT=1, ACTIVATION=TANH, Z=0, A=8, DELTA=16, LD=8).items():
    layers[0, getattr(call, column)] = value
buffers, theta = np.zeros(24), np.ones(1)
buffers[8] = 0.5
error = layers, buffers, np.zeros((1, 1)), np.empty(1), Cost(QUADRATIC), 1, 1
cached = compiler.is_cached(equations.output_error_serial, tuple(map(numba.typeof, error)))
equations.output_error_serial(*error)
for kernel in (update, update_serial):
    kernel(theta, buffers[16:], np.empty((0, 1)), np.zeros(N_SETTINGS), 1.0, 1, 1)
compiled = [sum(k.stats.cache_misses.values()) for k in (equations.output_error_serial, update, update_serial)]
implementations_read = "numba.np.arraymath" in sys.modules
mean = numba.njit(lambda vector: vector.mean())(theta)
print(mean, implementations_read, cached, *compiled)
"""


@pytest.fixture
def copied(tmp_path):
    """A copy of fastbp/core that may be edited; returns a function that runs a script on it, with its own cache."""
    (tmp_path / "fastbp").mkdir()
    (tmp_path / "fastbp" / "__init__.py").touch()
    shutil.copytree(CORE, tmp_path / "fastbp" / "core", ignore=shutil.ignore_patterns("__pycache__"))

    def run(script=COMPUTE):
        # Python keeps no bytecode: it too would go by the time of a file.
        done = python(script, path=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"), PYTHONDONTWRITEBYTECODE="1")
        assert done.returncode == 0, done.stderr
        return done.stdout.split(), done.stderr

    return run


def edit(file, old, new):
    """Replace `old`, which must be there once, and leave size and time of the file as they were."""
    text, status = file.read_text(encoding="utf-8"), file.stat()
    assert text.count(old) == 1
    assert len(old) == len(new)
    file.write_text(text.replace(old, new), encoding="utf-8")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_cache(copied, tmp_path):
    """Compiled once, announced once, loaded by the next process, which need not read Numba's implementations for that
    but has them when it compiles something of its own; parallel and serial builds are kept apart; and an edit of a
    callee in another file (equations.py calls costs.py, which calls activations.py) is seen even if the clock does not
    tell it."""
    (result, _, cached, *misses), error = copied()
    assert float(result) == 1 - 2 * 0.375  # two steps of delta = (a - t) (1 - a^2) = 0.5 (1 - 0.25)
    assert cached == "False"
    assert misses == ["1", "1", "1"]
    assert error.count(ANNOUNCEMENT) == 1
    assert len(error.splitlines()) == 1

    (result, read, cached, *misses), error = copied()
    assert float(result) == 1 - 2 * 0.375
    assert (read, cached) == ("False", "True")
    assert misses == ["0", "0", "0"]
    assert error == ""

    edit(tmp_path / "fastbp" / "core" / "activations.py", "lambda a: 1 - a * a", "lambda a: 1 + a * a")
    (result, _, cached, *misses), error = copied()
    assert float(result) == 1 - 2 * 0.625
    assert cached == "False"
    assert misses == ["1", "1", "1"]
    assert error.count(ANNOUNCEMENT) == 1


FILE = """
from numba import types
from fastbp.core import metrics

function = metrics.count_pairs
key = function._cache._index_key((types.int64[::1],), function.targetctx.codegen())
print(function._cache._cache_file._path(key).name)
"""
FOLDERS = sorted({file.parent.relative_to(CORE).as_posix() for file in CORE.rglob("*.py")})


def test_the_key_covers_each_folder_of_the_core(copied, tmp_path):
    """Where the machine code of one function is kept changes with a letter of any other file; not with the oracle, of
    which none is made."""
    def name_after_edit(file):
        title = file.read_text(encoding="utf-8").splitlines()[0]
        edit(file, title, title.swapcase())
        return copied(FILE)[0][0]

    core, ((before,), _) = tmp_path / "fastbp" / "core", copied(FILE)
    assert name_after_edit(core / "reference.py") == before
    assert set(FOLDERS) >= {".", "compiler", "simd", "threads"}
    files = [max((core / folder).glob("*.py"), key=lambda file: file.stat().st_size) for folder in FOLDERS]
    names = [before, *map(name_after_edit, files)]
    assert len(set(names)) == len(names), dict(zip(files, names[1:], strict=True))


def twice(x):
    return 2 * x


def test_no_folder_to_cache_in():
    """Then each process compiles for itself, and says so."""
    done = python("""
from fastbp.core import compiler
from fastbp.core.environment import folder

assert folder() is None
print(compiler.serial(lambda x: 2 * x)(21))
""", NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator", NUMBA_CACHE_DIR="/dev/null/there is none")
    assert done.stdout == "42\n", done.stderr
    assert done.stderr == ("fastbp compiles its functions for this machine: about 1 to 20 s, in each process, as no "
                           "folder for machine code can be written; NUMBA_CACHE_DIR can name one\n")


COLD = """
import sys
import numpy as np
from fastbp import Network, Trainer
from fastbp.core import build, engine

if len(sys.argv) > 1:
    sys.executable = sys.argv[1]
assert not build.cached("float32")
network = Network([5, 7, 3], hidden="tanh", output="softmax")
x = np.random.default_rng(0).normal(size=(40, 5))
Trainer(network, batch_size=10).fit(x, np.arange(40) % 3)
assert build.cached("float32")
loop = engine.one_thread.stats
pieces = [piece.alone.stats for piece, _ in build.signatures("float32")[1]]
print(network.theta.tobytes().hex(), sum(loop.cache_hits.values()), sum(loop.cache_misses.values()),
      *(sum(stats.cache_misses.values()) for stats in pieces))
"""
PIECES = ["1"] * len(build.signatures("float32")[1])  # each compiled once, by the process itself


def test_two_processes_compile(tmp_path):
    """The loop comes from the other one, the pieces from this; it is announced once."""
    done = python(COLD, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2")
    assert done.stderr.count(ANNOUNCEMENT) == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    _, *counts = done.stdout.split()
    assert counts == ["1", "0", *PIECES]


@pytest.mark.slow
@pytest.mark.parametrize("other", ["/no/such/python", "false"])
def test_one_process_compiles_where_the_other_cannot(other, tmp_path):
    """Whether there is none at its place or another program; with the same bits."""
    if other == "false":
        other = tmp_path / "python"
        other.write_text("#!/bin/sh\nexit 1\n")
        other.chmod(0o755)
    theta, *counts = output(COLD, str(other), NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2").split()
    assert counts == ["0", "1", *PIECES]
    assert theta == output(COLD, NUMBA_CACHE_DIR=str(tmp_path / "other"), NUMBA_NUM_THREADS="2").split()[0]


RARE = """
import sys
import numpy as np
from fastbp import Lion, Network, Trainer
from fastbp.core import build
from fastbp.data import Augmentation

rare = [piece.alone.stats for piece, _ in build.signatures("float32")[2]]
made = lambda: [sum(stats.cache_misses.values()) + sum(stats.cache_hits.values()) for stats in rare]
x, y = np.random.default_rng(0).normal(size=(400, 5)), np.arange(400) % 3
Trainer(Network([5, 7, 3]), batch_size=10, threads=int(sys.argv[1])).fit(x, y)
before = made()
net = Network([5, 7, 3], hidden="gelu")
options = dict(dropout=0.1, noise=0.1, clip_norm=1.0, augmentation=Augmentation(shift=1, shape=(1, 5)))
trainer = Trainer(net, optimizer=Lion(), batch_size=200, threads=int(sys.argv[1]), **options)
if len(sys.argv) > 2:
    trainer.compile()
    assert made() == [1] * 7 + [0] * 2 and trainer.steps_done == 0  # the last two are for sparse samples
trainer.fit(x, y)
print(net.theta.tobytes().hex(), *before, *made())
"""


def test_rare_pieces(tmp_path):
    """Are compiled when they are needed, by whichever thread comes there first; once, and kept."""
    printed = [output(RARE, *arguments, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2").split()
               for arguments in (["2"], ["1"], ["2", "compile"])]
    assert printed[0] == printed[1] == printed[2]
    assert printed[0][1:] == ["0"] * 9 + ["1"] * 7 + ["0"] * 2
    assert len(list(tmp_path.rglob("*activate_rarely*.nbc"))) == 1


ONE_BY_ONE = """
import numpy as np
from fastbp import Adam, AdamW, Adagrad, Lion, NAdam, Network, RMSprop, Rprop, SGD, Trainer, cost_and_gradient
from fastbp.core.compiler.linking import _cells
from fastbp.core import build
from fastbp.core.activations import CODES
from fastbp.core.compiler.linking import _cells

x, y, few = np.random.default_rng(0).normal(size=(40, 5)), np.random.default_rng(1).random((40, 3)), 0

def alone(call):
    global few
    build._loaded.clear()
    for cell in _cells.values():
        cell[0] = 0
    call()
    few += sum(cell[0] != 0 for cell in _cells.values())

for name in CODES:
    for hidden, output in {(name, "identity"), ("tanh", name)} - {("softmax", "identity")}:
        net = Network([5, 7, 3], hidden=hidden, output=output)
        loss = "cross_entropy" if output == "softmax" else "quadratic"
        targets = np.eye(3)[np.arange(40) % 3] if output == "softmax" else y
        for kind in ("f4", "f8", "f2"):
            net._idle.clear()  # what it keeps has been bound with pieces that are gone now
            alone(lambda: net.forward(x.astype(kind)))
        alone(lambda: Trainer(net, loss=loss).evaluate(x, targets))
        alone(lambda: cost_and_gradient(net, x, targets, loss=loss))
        alone(lambda: Trainer(net, loss=loss, batch_size=10).fit(x, targets))
for optimizer in (SGD(), SGD(momentum=0.5), SGD(momentum=0.5, nesterov=True), Adam(), AdamW(), NAdam(), RMSprop(),
                  Adagrad(), Lion(), Rprop()):
    alone(lambda: Trainer(Network([5, 7, 3]), optimizer=optimizer, batch_size=40).fit(x, np.arange(40) % 3))
for options in (dict(dropout=0.1), dict(noise=0.1), dict(clip_norm=1.0), dict(max_norm=1.0), dict(clip_value=1.0),
                dict(ema=0.5), dict(dropout=[0.1, 0])):
    alone(lambda: Trainer(Network([5, 7, 3]), batch_size=10, **options).fit(x, np.arange(40) % 3))
print(few)
"""


def test_no_rare_piece_is_called_that_is_not_there():
    """The process would end. Each activation, optimizer and option, with no pieces but those loaded for it."""
    assert int(output(ONE_BY_ONE)) > 50


NOT_KEPT = (numba.types.none,)  # of no kernel


def test_the_other_process_ends_with_the_block(monkeypatch):
    """When the block is left by an error, as Ctrl-C is one, and when the process hangs."""
    processes, start = [], beside._python
    monkeypatch.setattr(beside, "_python", lambda statement: processes.append(start(statement)) or processes[-1])
    monkeypatch.setattr(beside, "available_threads", lambda: 2)
    with pytest.raises(KeyboardInterrupt), compiler.beside(engine.one_thread, NOT_KEPT, "import time; time.sleep(600)"):
        raise KeyboardInterrupt
    monkeypatch.setattr(beside, "PATIENCE", 0.1)
    with compiler.beside(engine.one_thread, NOT_KEPT, "import time; time.sleep(600)") as shared:
        assert shared
    assert len(processes) == 2
    assert all(process.returncode == (-signal.SIGKILL if os.name == "posix" else 1) for process in processes)


def test_no_other_process(monkeypatch):
    """With one processor, or where its work could not be kept or is."""
    classifier().slip(1)  # loads them
    monkeypatch.setattr(beside, "_python", None)
    monkeypatch.setattr(beside, "available_threads", lambda: 1)
    with compiler.beside(engine.one_thread, NOT_KEPT, "") as shared:
        assert not shared
    monkeypatch.setattr(beside, "available_threads", lambda: 2)
    with compiler.beside(numba.njit(twice), NOT_KEPT, "") as shared:
        assert not shared
    with compiler.beside(engine.one_thread, build.signatures("float32")[0], "") as shared:
        assert not shared


def test_each_way_of_compiling_a_function_has_a_name_of_its_own():
    """Numba tells two by a number alone, which counts anew in each process: of two of one number, kept by two
    processes, LLVM took the first for both, and a driver called a rare piece that nobody had loaded."""
    _, pieces, rare = build.signatures("float64")
    for piece, _ in pieces + rare:
        names = [made.py_func.__qualname__ for made in (piece, piece.linked, piece.alone)]
        assert len(set(names)) == 3 and all(name.startswith(piece.__name__) for name in names)
    for inner in (engine.total_weight, engine.samples_part):
        assert inner.linked.py_func.__qualname__ != inner.py_func.__qualname__


def test_pieces_must_be_linked():
    """LLVM would end the process at a symbol that it does not know."""
    @numba.njit(**compiler.FLAGS)
    def use(code, z):
        activations.activate(code, at(z, 0), at(z, 0), 1, z.size, z.size)

    with compiler.linking(), pytest.raises(TypingError, match="activate.*is called but was not linked"):
        use(0.5, np.zeros(8))
    classifier().slip(1)  # loads them
    arguments = activations.RELU, np.zeros(16, np.float32)  # whole vectors: of a part of one, all would be written
    use(*arguments)
    with compiler.linking():
        numba.njit(**compiler.FLAGS)(use.py_func)(*arguments)
    assert "fastbp activate" not in next(iter(use.inspect_llvm().values()))  # it holds the piece


def test_inner_functions_refuse_python():
    """They have no entry point for it, and Numba on its own would jump to nowhere."""
    for _ in range(2):
        with pytest.raises(TypeError, match="rates_of can only be called from compiled code"):
            rules.rates_of(np.zeros(rules.N_SETTINGS), 0.1, 1, 1.0)


# What a step costs beyond its arithmetic.


def use_all(sizes):
    """Train, and call each of the five kernels, serial and parallel."""
    steps = classifier(sizes)
    for kernel, by, threads in ((engine.run_serial, SERIAL, 1), (engine.run, PARALLEL, 2)):
        assert steps(kernel, 2, threads) == 2
        steps.compute(by, threads=threads)


def test_a_new_architecture_compiles_nothing():
    use_all((6, 9, 4))
    with event.install_recorder("numba:compile") as compiled:
        use_all((6, 9, 4))
        use_all((1, 1))
        use_all((20, 3, 40, 7, 5, 300, 2))
    assert compiled.buffer == []
    with event.install_recorder("numba:compile") as compiled:
        numba.njit(twice)(1)
    assert compiled.buffer != []  # the recorder records


ALLOCATIONS = """
import tracemalloc

import numba
import numpy as np
from numba.core.runtime import rtsys
from fastbp.core import engine
from rig import classifier

@numba.njit
def allocate(n):
    for i in range(n):
        np.empty(i + 1)[0] = i

def allocations(call, n):
    before = rtsys.get_allocation_stats().alloc
    call(n)
    return rtsys.get_allocation_stats().alloc - before

steps = classifier((200, 100, 10))
train = lambda n: steps(engine.run_serial, n)
for call in (train, allocate):
    call(1)
    print(*(allocations(call, n) for n in (1, 2, 40)))

def python_memory(call, n):
    tracemalloc.start()
    call(n)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    call(n)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before

def allocate_in_python(n):
    for i in range(n):
        np.empty(10_000)

print(steps.theta.nbytes, python_memory(train, 40), python_memory(allocate_in_python, 40))
"""


def test_a_step_allocates_nothing():
    """Forty steps take as many allocations as one: those with which a call from Python hands over its arrays."""
    lines = output(ALLOCATIONS, NUMBA_NRT_STATS="1").splitlines()
    (one, two, forty), (counted_one, counted_two, counted_forty) = (map(int, line.split()) for line in lines[:2])
    assert one == two == forty
    assert counted_two == counted_one + 1  # the counter counts
    assert counted_forty == counted_one + 39
    bytes_of_theta, peak, counted_peak = map(int, lines[2].split())
    assert peak < 5000 < bytes_of_theta  # a few objects of the call itself
    assert counted_peak >= 80_000


@pytest.mark.slow
def test_the_compiled_loop_does_not_count_who_uses_its_arrays():
    """Atomic additions, wherever an array with an owner is taken in hand; it borrows all of them."""
    # Anew: machine code on disk has no text.
    loop = numba.njit(**compiler.FLAGS, **compiler.NO_ENTRY)(engine.one_thread.py_func)
    classifier().slip(1)  # loads them
    with compiler.linking():
        loop.compile(build.signatures("float32")[0])
    [code] = loop.inspect_llvm().values()
    functions = [text for text in code.split("\ndefine ") if "one_thread" in text.splitlines()[0]]
    assert any("prefetch" in text for text in functions)
    assert not any("@NRT_incref" in text for text in functions)


# Threads and forks beside parallel code.


def test_team():
    before = numba.get_num_threads()
    assert enter(1) == ("serial", 1)
    assert enter(1, most=2) == ("parallel", 1)
    with team.team(("parallel", "serial"), 2) as entered:
        assert entered == ("parallel", 2)
        seen = []
        other = threading.Thread(target=lambda: seen.extend([enter(2), enter(1, most=2)]))
        other.start()
        other.join()
        assert seen == [("serial", 1)] * 2  # while one thread is in, another runs serially
        assert enter(2) == ("parallel", 2)  # the same thread may enter again: nothing of it runs meanwhile
    assert enter(2) == ("parallel", 2)
    with pytest.raises(KeyError), team.team(("parallel", "serial"), 2):
        raise KeyError
    assert enter(2) == ("parallel", 2)
    assert numba.get_num_threads() == before


def test_awake_threads_are_not_moved(monkeypatch):
    """Only after a pause, or with another number of threads, are the helpers kept apart anew."""
    moved = []
    monkeypatch.setattr(processors, "apart", lambda helpers: contextlib.nullcontext(moved.append(list(helpers))))
    monkeypatch.setattr(team, "_helpers", [1])
    monkeypatch.setattr(team, "PAUSE", 60)
    monkeypatch.setattr(team, "_awake", (1, -math.inf))
    for threads in (2, 2, 1, 1, 2):
        enter(threads, most=2)
        assert team.is_awake(threads) and not team.is_awake(threads + 1)
    assert moved == [[1], [1]]
    monkeypatch.setattr(team, "PAUSE", 0)
    enter(2)
    assert moved == [[1], [1], [1]]


def enter(threads, most=1):
    with team.team(("parallel", "serial"), threads, most) as entered:
        return entered


SETUP = """
import os
import threading

import numba
from fastbp.core import engine
from fastbp.core.threads import team
from rig import classifier, in_threads

def train():
    '''Bits of theta after five rounds of 40 steps, and the team sizes that were allowed.'''
    steps, seen = classifier((100, 64, 10)), set()
    for _ in range(5):
        with team.team((engine.run, engine.run_serial), 2) as (run, threads):
            seen.add(threads)
            steps(run, 40, threads)
    return steps.theta.tobytes(), seen

expected, seen = train()
assert seen == {2}
assert numba.threading_layer() == os.environ.get("NUMBA_THREADING_LAYER", numba.threading_layer())
serial = classifier((100, 64, 10))
for _ in range(5):
    serial(engine.run_serial, 40)
assert serial.theta.tobytes() == expected
"""

IN_THREADS = SETUP + """
results, everyone = [], threading.Barrier(4)

def work(_):
    everyone.wait()
    results.append(train())

in_threads(work, 4)
assert len(results) == 4
assert all(bits == expected for bits, _ in results)
print("same bits")
"""

IN_A_FORK = SETUP + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process that has threads is what is tried here
child = os.fork()
if child == 0:
    bits, seen = train()
    os._exit(0 if bits == expected and seen == {1} else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
bits, seen = train()
assert bits == expected
assert seen == {2}  # the parent goes on in parallel
print("same bits")
"""

def test_without_the_compiler_the_import_says_so():
    done = python("import fastbp", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ImportError: fastbp needs Numba's compiler, but NUMBA_DISABLE_JIT turns it off: unset it\n")


LAYERS = [{}, {"NUMBA_THREADING_LAYER": "workqueue"}]


@pytest.mark.parametrize("layer", LAYERS, ids=["default", "workqueue"])
def test_several_python_threads_at_once(layer):
    assert output(IN_THREADS, NUMBA_NUM_THREADS="2", **layer) == "same bits\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("layer", LAYERS, ids=["default", "workqueue"])
def test_a_forked_child(layer):
    assert output(IN_A_FORK, NUMBA_NUM_THREADS="2", **layer) == "same bits\n"


def test_control_groups(tmp_path):
    """The least quota of a process's group and the groups around it, in both versions of Linux's control groups."""
    proc, root = tmp_path / "cgroup", tmp_path / "root"
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    proc.write_text("0::/outer/inner\n")
    assert processors.quota(proc, root) == np.inf  # no file says anything
    (inner / "cpu.max").write_text("max 100000\n")
    assert processors.quota(proc, root) == np.inf
    (root / "outer" / "cpu.max").write_text("150000 100000\n")
    assert processors.quota(proc, root) == 1.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert processors.quota(proc, root) == 0.5

    group = root / "cpu,cpuacct" / "docker" / "abc"
    group.mkdir(parents=True)
    proc.write_text("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert processors.quota(proc, root) == np.inf
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    assert processors.quota(proc, root) == 3
    assert processors.quota(tmp_path / "nothing", root) == np.inf


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1, 1), (1.5, 2), (100, 4), (np.inf, 4)])
def test_available_threads(monkeypatch, quota, threads):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 4)
    monkeypatch.setattr(processors, "quota", lambda: quota)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert processors.available_threads() == threads
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    assert processors.available_threads() == 4  # as asked for


@pytest.mark.parametrize("name", ["MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"])
@pytest.mark.parametrize(("ranks", "threads"), [("1", 4), ("2", 4), ("3", 2), ("8", 1), ("99", 1)])
def test_ranks_share_the_processors(monkeypatch, name, ranks, threads):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 4)
    monkeypatch.setattr(processors, "quota", lambda: np.inf)
    monkeypatch.setattr(processors.os, "cpu_count", lambda: 8)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setenv(name, ranks)
    assert processors.available_threads() == threads


TWO = hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@pytest.mark.skipif(not TWO, reason="one processor, or no Linux")
@pytest.mark.parametrize("layer", LAYERS, ids=["default", "workqueue"])
def test_helpers(layer):
    """The threads that work beside the caller: none under workqueue, where two others work and the caller waits."""
    name, helpers = output(HELPERS, NUMBA_NUM_THREADS="2", **layer).split()
    assert int(helpers) == (0 if name == "workqueue" else 1)


HELPERS = """
import numba
import numpy as np
from fastbp import Network
from fastbp.core.threads import team

Network([64, 512, 10]).forward(np.ones((600, 64), "f4"), threads=2)
print(numba.threading_layer(), len(team._helpers))
"""


@pytest.mark.skipif(not TWO, reason="one processor, or no Linux")
def test_apart():
    """A helper is kept off the caller's processor, but one that somebody has bound is left alone."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    helper, allowed = thread.native_id, os.sched_getaffinity(0)
    try:
        with processors.apart([helper, 2**22]):  # the second has never been: numbers end below
            inside = os.sched_getaffinity(helper)
            assert len(inside) == len(allowed) - 1 and inside < allowed
            assert os.sched_getaffinity(0) == allowed
        assert os.sched_getaffinity(helper) == allowed
        bound = {min(allowed)}
        os.sched_setaffinity(helper, bound)
        with processors.apart([helper]):
            assert os.sched_getaffinity(helper) == bound
        assert os.sched_getaffinity(helper) == bound
    finally:
        end.set()
        thread.join()
